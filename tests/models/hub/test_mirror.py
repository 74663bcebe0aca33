"""`MUSE_HUB_MIRROR`: copies of this site's own, asked before the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.hub.errors import WeightsRefusedError
from models.hub.settings import HubSettings, read_settings
from models.hub.snapshot import Snapshot, resolve
from streaming.errors import EngineError
from tests.models.hub.fake_hub import COMMIT, REPOSITORY, FakeHub
from tests.models.hub.files import HOTKEY, TAKEN, checkpoint, digest, safetensors, write_files

REF = f"{REPOSITORY}@{COMMIT}"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    directory = tmp_path / "mirror"
    directory.mkdir()
    return directory


@pytest.fixture
def copy(mirror: Path) -> Path:
    """The commit's directory in the mirror."""
    return write_files(mirror / REPOSITORY / COMMIT, checkpoint())


@pytest.fixture
def mirrored(settings: HubSettings, mirror: Path) -> HubSettings:
    return settings.model_copy(update={"mirror": mirror})


def test_what_the_mirror_holds_is_used_where_it_lies_and_the_hub_is_not_asked(
    hub: FakeHub, mirrored: HubSettings, copy: Path
) -> None:
    expected = digest({name: checkpoint()[name] for name in TAKEN})
    snapshot = resolve(f"{REF}#sha256={expected}", settings=mirrored, hotkey=HOTKEY)
    assert (snapshot.directory, snapshot.commit, snapshot.digest) == (copy, COMMIT, expected)
    assert tuple(snapshot.files) == TAKEN
    assert not hub.requests


def test_what_the_mirror_does_not_hold_is_asked_of_the_hub(
    hub: FakeHub, fetch: Callable[..., Snapshot], mirror: Path, copy: Path
) -> None:
    copy.rename(copy.with_name("f" * 40))
    assert not fetch(mirror=mirror).directory.is_relative_to(mirror)
    assert hub.asked("model.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.safetensors", safetensors(data=bytes(95)), r"model\.safetensors: truncated"),
        ("modeling.py", b"", r"modeling\.py: code by its name"),
        ("weights.txt", b"\x80\x04\x95", r"weights\.txt: a pickle by its first bytes"),
        ("README.md", bytes(5000), r"README\.md: too large: 5000 bytes"),
        ("config.json", b'{"dim": 9}\n', "its digest is sha256="),
        ("hotkey.txt", HOTKEY[:-1].encode() + b"Z", r"hotkey\.txt: names "),
    ],
)
def test_a_copy_is_verified_like_everything_else(
    mirrored: HubSettings, copy: Path, name: str, content: bytes, reason: str
) -> None:
    (copy / name).write_bytes(content)
    limited = mirrored.model_copy(update={"max_small_file_bytes": 4096})
    sha256 = digest({taken: checkpoint()[taken] for taken in TAKEN})
    # Of a file that is meant to differ, the digest would be refused before its owner is looked at.
    ref = REF if name == "hotkey.txt" else f"{REF}#sha256={sha256}"
    with pytest.raises(WeightsRefusedError, match=reason):
        resolve(ref, settings=limited, hotkey=HOTKEY)


@pytest.mark.parametrize("what", ["file", "commit", "namespace"])
def test_a_link_out_of_the_mirror_is_refused(
    hub: FakeHub, mirrored: HubSettings, copy: Path, tmp_path: Path, what: str
) -> None:
    link = {"file": copy / "config.json", "commit": copy, "namespace": copy.parents[1]}[what]
    outside = tmp_path / "outside"
    link.rename(outside)
    link.symlink_to(outside)
    with pytest.raises(WeightsRefusedError, match="a symlink out of the"):
        resolve(REF, settings=mirrored)
    assert not hub.requests, "a copy that is refused is not covered up by the hub's"


def test_a_mirror_that_is_not_there_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSE_HUB_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match="MUSE_HUB_MIRROR: "):
        read_settings()
