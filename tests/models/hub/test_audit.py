from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from models.hub import audit as module
from models.hub.audit import audit
from models.hub.errors import WeightsRefusedError
from models.hub.settings import HubSettings
from tests.models.hub.files import HOTKEY, TAKEN, checkpoint, safetensors


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return HubSettings(cache=tmp_path / "cache", max_small_file_bytes=4096)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "weights"
    write(root, checkpoint())
    return root


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_what_is_sound_is_a_snapshot(directory: Path, settings: HubSettings) -> None:
    found = audit(directory, settings, hotkey=HOTKEY)
    assert not found.faults
    assert found.snapshot is not None
    assert tuple(found.snapshot.files) == TAKEN


def test_every_fault_is_told_and_each_once(directory: Path, settings: HubSettings, tmp_path: Path) -> None:
    write(
        directory,
        {
            "modeling.py": b"",
            "old.bin": b"",
            "weights.txt": b"\x80\x04\x95",
            "README.md": bytes(5000),
            "CONFIG.json": b"{}",
            "model.safetensors": safetensors(data=bytes(95)),
            "a/b/c/d/deep.json": b"{}",
            "hotkey.txt": b"5Gsomebody else",
        },
    )
    (directory / "link.json").symlink_to(tmp_path)
    found = audit(directory, settings, hotkey=HOTKEY)
    assert found.snapshot is None
    assert sorted(f"{fault.file}: {fault.reason[:13]}" for fault in found.faults) == [
        "README.md: too large: 50",
        "a/b/c/d/deep.json: more than 4 f",
        "config.json: listed twice,",
        "hotkey.txt: names '5Gsome",
        "link.json: a symlink out",
        "model.safetensors: truncated: 95",
        "modeling.py: code by its n",
        "old.bin: a pickle by i",
        "weights.txt: a pickle by i",
    ]


def test_a_directory_that_is_not_there_or_empty(settings: HubSettings, tmp_path: Path) -> None:
    [missing] = audit(tmp_path / "nowhere", settings).faults
    assert missing.reason == "there is no such directory"
    (tmp_path / "empty").mkdir()
    faults = audit(tmp_path / "empty", settings, hotkey=HOTKEY).faults
    assert [fault.file for fault in faults] == ["*.safetensors", "hotkey.txt"]


def test_what_is_refused_and_not_found_again_is_told_all_the_same(
    directory: Path, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise WeightsRefusedError("model.safetensors", "changed while it was read")

    monkeypatch.setattr(module, "resolve", refuse)
    found = module.audit(directory, settings)
    assert (found.snapshot, [fault.reason for fault in found.faults]) == (None, ["changed while it was read"])


def test_a_hotkey_alone_is_named(directory: Path, settings: HubSettings) -> None:
    [fault] = audit(directory, settings, hotkey=HOTKEY[:-1] + "Z").faults
    assert fault.file == "hotkey.txt"
