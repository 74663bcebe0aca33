from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.hub import verify
from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.ref import LocalRef
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve
from tests.models.hub.files import HOTKEY, TAKEN, checkpoint, digest, write_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_files(tmp_path / "weights", checkpoint())


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return HubSettings(cache=tmp_path / "cache", max_small_file_bytes=4096)


def opened(directory: Path, settings: HubSettings, *, sha256: str | None = None, hotkey: str | None = None) -> Snapshot:
    return resolve(LocalRef(directory=directory, sha256=sha256), settings=settings, hotkey=hotkey)


def test_a_directory_has_the_shape_of_a_snapshot(directory: Path, settings: HubSettings) -> None:
    expected = digest({name: checkpoint()[name] for name in TAKEN})
    snapshot = resolve(f"file:{directory}#sha256={expected}", settings=settings, hotkey=HOTKEY)
    assert (snapshot.directory, tuple(snapshot.files), snapshot.commit) == (directory, TAKEN, None)
    assert snapshot.digest == expected


def test_an_unchanged_file_is_hashed_once(
    directory: Path, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def read_chunks(path: Path) -> Iterator[bytes]:
        hashed.append(path.name)
        yield path.read_bytes()

    monkeypatch.setattr(verify, "read_chunks", read_chunks)
    first = opened(directory, settings)
    assert len(hashed) == len(TAKEN)
    assert opened(directory, settings) == first
    assert len(hashed) == len(TAKEN)
    (directory / "config.json").write_bytes(b'{"dim": 9}\n')
    assert opened(directory, settings).digest != first.digest
    assert hashed[len(TAKEN) :] == ["config.json"]


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_hashed_again(
    directory: Path, settings: HubSettings
) -> None:
    first = opened(directory, settings)
    path, other = directory / "config.json", directory / "other"
    other.write_bytes(b'{"dim": 9}\n')
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert opened(directory, settings).digest != first.digest


def test_a_file_rewritten_in_place_with_its_time_put_back_is_hashed_again(
    directory: Path, settings: HubSettings
) -> None:
    first = opened(directory, settings)
    path = directory / "config.json"
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # which goes in steps of some milliseconds
        path.write_bytes(b'{"dim": 9}\n')
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert opened(directory, settings).digest != first.digest


def test_a_cache_that_cannot_be_written_is_done_without(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache would be")
    assert opened(directory, HubSettings(cache=tmp_path / "cache")).files


def test_a_damaged_record_is_not_believed(directory: Path, settings: HubSettings) -> None:
    first = opened(directory, settings)
    for content in ("{", "[]", '{"config.json": {"size": 1}}', '{"config.json": 1}'):
        next(settings.cache.rglob("*.json")).write_text(content)
        assert opened(directory, settings) == first


def test_links_inside_the_directory_are_followed(directory: Path, settings: HubSettings) -> None:
    (directory / "main.json").symlink_to("config.json")
    assert opened(directory, settings).path("main.json").read_bytes() == b'{"dim": 8}\n'


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.json", "loop.json", "gone.json"])
def test_a_link_that_leaves_the_directory_is_refused(directory: Path, settings: HubSettings, target: str) -> None:
    (directory.parent / "outside.json").write_text("{}")
    (directory / "loop.json").symlink_to(target)
    with pytest.raises(WeightsRefusedError, match=r"loop\.json: a symlink out of the directory"):
        opened(directory, settings)


def test_a_linked_folder_is_refused(directory: Path, settings: HubSettings, tmp_path: Path) -> None:
    (directory / "inside").symlink_to("voices")
    with pytest.raises(WeightsRefusedError, match="inside: neither a file nor a directory"):
        opened(directory, settings)
    (directory / "inside").unlink()
    (directory / "outside").symlink_to(tmp_path)
    with pytest.raises(WeightsRefusedError, match="outside: a symlink out of the directory"):
        opened(directory, settings)


def test_a_pipe_is_refused_without_being_opened(directory: Path, settings: HubSettings) -> None:
    os.mkfifo(directory / "pipe.json")
    with pytest.raises(WeightsRefusedError, match=r"pipe\.json: neither a file nor a directory"):
        opened(directory, settings)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pytorch_model.bin", b"", r"pytorch_model\.bin: a pickle by its name"),
        ("config.yaml", b"\x80\x04\x95.", r"config\.yaml: a pickle by its first bytes"),
        ("model.safetensors", b"PK\x03\x04" + bytes(100), r"model\.safetensors: a zip archive"),
        ("model.safetensors", b"short", r"model\.safetensors: 5 bytes are no safetensors file"),
        ("config.json", b"[" * 4097, r"config\.json: too large: 4097 bytes, at most 4096"),
        ("a/b/c/d/e/f.json", b"{}", r"a/b/c/d/e: more than 4 folders deep"),
    ],
)
def test_what_a_directory_may_not_hold(
    directory: Path, settings: HubSettings, name: str, content: bytes, reason: str
) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(WeightsRefusedError, match=reason):
        opened(directory, settings)


def test_a_file_truncated_after_it_was_verified_is_refused(directory: Path, settings: HubSettings) -> None:
    opened(directory, settings)
    with (directory / "model.safetensors").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(WeightsRefusedError, match=r"model\.safetensors: truncated"):
        opened(directory, settings)


def test_a_directory_that_is_none(directory: Path, settings: HubSettings) -> None:
    with pytest.raises(WeightsUnavailableError, match="there is no such directory"):
        opened(directory / "gone", settings)
    with pytest.raises(WeightsRefusedError, match="not a directory"):
        opened(directory / "config.json", settings)


def test_somebody_elses_hotkey_is_refused(directory: Path, settings: HubSettings) -> None:
    with pytest.raises(WeightsRefusedError, match=r"hotkey\.txt: names"):
        opened(directory, settings, hotkey=HOTKEY[:-1] + "Z")
