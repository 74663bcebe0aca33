from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.cli import main
from models.hub.locks import let_go
from tests.models.hub.conftest import REF
from tests.models.hub.fake_hub import REPOSITORY, FakeHub
from tests.models.hub.files import TAKEN, digest


@pytest.fixture(autouse=True)
def environment(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSE_HUB_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("MUSE_HUB_HOSTS", "localhost, cdn.example")
    monkeypatch.setenv("MUSE_HUB_ALLOW_LOOPBACK", "1")
    hub.locations = {name: f"/cdn/{name}" for name in hub.files}


def test_weights_are_fetched_and_the_directory_verified(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    expected = digest({name: hub.files[name] for name in TAKEN})
    assert main(["hub", "fetch", f"{REF}#sha256={expected}"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(TAKEN)
    directory, _, found = last.partition(": ok, ")
    assert found == f"sha256={expected}"
    assert main(["hub", "verify", directory, "--sha256", expected]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_refusal_is_told_in_one_line(hub: FakeHub, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hub.files["weights.pkl"] = b""
    assert main(["hub", "fetch", str(REF)]) == 1
    assert capsys.readouterr().err.startswith("error: weights.pkl: a pickle by its name")
    assert main(["hub", "verify", str(tmp_path / "gone")]) == 1
    assert "there is no such directory (weights_unavailable)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRIES", "many"),
        ("ENDPOINT", "ftp://hub"),
        ("ENDPOINT", "https://hub:port"),
        ("MAX_FILES", "0"),
        ("CACHE_GB", "0"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MUSE_HUB_{name}", value)
    assert main(["hub", "pin", REPOSITORY]) == 1
    assert capsys.readouterr().err.startswith(f"error: MUSE_HUB_{name}: ")


def test_a_repository_is_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hub", "pin", REPOSITORY]) == 0
    assert capsys.readouterr().out == f"{REF}\n"


def test_the_cache_is_shown_and_emptied(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_HUB_CACHE_GB", "40")
    assert main(["hub", "fetch", str(REF)]) == 0
    capsys.readouterr()
    assert main(["hub", "cache"]) == 0
    shown, total = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{REF}  0\.00 GB, last used \d{{4}}-\d\d-\d\d \d\d:\d\d, in use", shown)
    assert total == f"{tmp_path / 'cache'}: 0.00 GB; at most 40 GB (MUSE_HUB_CACHE_GB)"
    assert main(["hub", "cache", "--empty"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(str(REF)), "what is in use stays"
    assert main(["hub", "cache", "--remove", str(REF)]) == 1
    assert capsys.readouterr().err == f"error: {REF}: in use; it is not removed (weights_unavailable)\n"
    let_go()
    assert main(["hub", "cache", "--remove", f"{REF}#sha256={'0' * 64}"]) == 0
    assert capsys.readouterr().out.startswith(f"removed: {REF}  0.00 GB")
    assert main(["hub", "cache", "--remove", str(REF)]) == 1
    assert "not in the cache" in capsys.readouterr().err


def test_a_directory_of_ones_own_is_not_removed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["hub", "cache", "--remove", f"file:{tmp_path}"]) == 1
    assert "never removed" in capsys.readouterr().err
    assert tmp_path.is_dir()
