"""A directory of weights on this machine: what it holds, as it lies there."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.policy import MAX_DEPTH, ListedFile


def resolved(directory: Path) -> Path:
    """Where a directory really is. Raises WeightsError where there is none."""
    try:
        root = directory.resolve(strict=True)
    except (OSError, RuntimeError):
        raise WeightsUnavailableError(str(directory), "there is no such directory") from None
    if not root.is_dir():
        raise WeightsRefusedError(str(directory), "not a directory")
    return root


def walk(directory: Path, on_fault: Callable[[WeightsRefusedError], None]) -> Iterator[ListedFile]:
    """Every file under `directory`, which has been resolved, by its name below it.

    What is neither a file nor a folder, and a link out of the directory, is passed over once `on_fault` returns.
    """
    return _walk(directory, directory, on_fault)


def _walk(root: Path, directory: Path, on_fault: Callable[[WeightsRefusedError], None]) -> Iterator[ListedFile]:
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        name = path.relative_to(root).as_posix()
        if path.is_symlink() and not inside(path, root):
            on_fault(WeightsRefusedError(name, "a symlink out of the directory; copy the file itself (cp -L)"))
            continue
        if len(path.relative_to(root).parts) > MAX_DEPTH:
            on_fault(WeightsRefusedError(name, f"more than {MAX_DEPTH} folders deep"))
            continue
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and not path.is_symlink():
            yield from _walk(root, path, on_fault)
        elif stat.S_ISREG(mode):
            yield ListedFile(name=name, size=path.stat().st_size)
        else:
            on_fault(WeightsRefusedError(name, "neither a file nor a directory"))


def refuse(fault: WeightsRefusedError) -> None:
    """For `walk`: stop at the first fault."""
    raise fault


def inside(path: Path, root: Path) -> bool:
    """Whether `path` leads to something under `root`, which has been resolved."""
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises WeightsUnavailableError that names `path` where the disk does not do as it is told."""
    try:
        yield
    except OSError as error:
        raise WeightsUnavailableError(str(path), f"the disk says: {error.strerror}") from None
