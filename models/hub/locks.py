"""Who works on the cache, and who uses a snapshot of it: file locks, which the system releases when a process ends.

However it ends. After SIGKILL there is nothing to clean up.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from models.hub.directory import disk_errors
from models.hub.errors import WeightsUnavailableError

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_kept: list[int] = []
"""The locks of what this process uses."""


@contextmanager
def alone(path: Path, name: str, otherwise: str, *, seconds: float) -> Iterator[None]:
    """Be the only one in here, once whoever else is has left.

    Raises WeightsUnavailableError, of `name` for the reason `otherwise`, where they have not in so many seconds.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=seconds)
        try:
            lock.acquire()
        except Timeout:
            raise WeightsUnavailableError(name, otherwise) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def used(path: Path) -> Iterator[None]:
    """Keep others from `unused`, meanwhile and, where this ends well, until the process ends.

    The time of the file is when it was used last. Without permission to write it the lock is taken all the same.
    Where there can be none, on a disk without locks or without the file, nobody gets the one of `unused` either.
    """
    with disk_errors(path):
        descriptor = _shared(path)
    try:
        yield
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        raise
    if descriptor is not None:
        _kept.append(descriptor)
        atexit.register(touch, path)


@contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether it is certain that nobody uses it; then nobody begins to meanwhile. Does not wait."""
    descriptor = _exclusive(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def touch(path: Path) -> None:
    """It is used now, as far as this process may say so."""
    with suppress(OSError):
        os.utime(path, follow_symlinks=False)


def let_go() -> None:
    """Use nothing any more, in a process that goes on."""
    while _kept:
        os.close(_kept.pop())


def _shared(path: Path) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        return None
    touch(path)
    return descriptor


def _exclusive(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | _FLAGS)  # which is not made: a snapshot without it is not ours
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
