from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from models.hub.errors import WeightsUnavailableError
from models.hub.locks import let_go, unused, used


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "file.used"


def is_unused(path: Path) -> bool:
    with unused(path) as free:
        return free


def test_use_lasts_until_the_process_ends_or_lets_go(path: Path) -> None:
    with used(path), used(path):
        assert not is_unused(path)
    assert not is_unused(path)
    let_go()
    assert is_unused(path)


def test_a_use_that_fails_is_none(path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), used(path):
        raise ValueError("refused")
    assert is_unused(path)


def test_one_removes_at_a_time(path: Path) -> None:
    with used(path):
        pass
    let_go()
    with unused(path) as first:
        assert first
        assert not is_unused(path)
    assert is_unused(path)


def test_what_has_no_file_is_not_certain_to_be_unused(path: Path) -> None:
    assert not is_unused(path)
    assert not path.exists()


def test_a_cache_that_may_only_be_read_can_be_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    opened = os.open

    def may_read(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", may_read)
        with used(path):
            assert not path.exists()
        path.touch()
        with used(path):
            pass
    assert not is_unused(path), "one who may only read is heeded too"


def test_on_a_disk_without_locks_everything_may_be_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with used(path):
        assert path.exists()
    assert not is_unused(path)


def test_a_use_that_cannot_be_told_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(WeightsUnavailableError, match=r"file\.used: the disk says: Too many open files"), used(path):
        pass
