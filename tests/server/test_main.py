from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.__main__ import main
from server.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("MUSE_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a server says which cannot start."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("muse: ")]
    assert len(lines) == 1
    assert "Traceback" not in error
    return lines[0]


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"MUSE_{name.upper()}" in text


def test_a_bad_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_LEAD_MS", "soon")
    assert failure(capsys).startswith("muse: MUSE_LEAD_MS: ")


def test_a_bad_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "--engine", "nonesuch").startswith("muse: --engine: ")


def test_a_bad_key_is_not_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_API_KEY", "hunter2")
    assert "hunter2" not in failure(capsys)


def test_an_open_server_stays_on_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    assert "MUSE_API_KEY" in failure(capsys, "--host", "0.0.0.0", "--port", "0")


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"port {port}" in failure(capsys, "--port", port)


def test_a_directory_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUSE_RECORD_DIR", str(tmp_path / "file" / "traces"))
    assert "cannot record into" in failure(capsys, "--port", "0")
