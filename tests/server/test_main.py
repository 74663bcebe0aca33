from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from routing.settings import RoutingSettings
from server import engines
from server.__main__ import _access_policy, _settle, main
from server.settings import Settings
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("MUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MUSE_ROUTING_DATABASE", f"sqlite:///{tmp_path}/muse.db")
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
    for prefix, settings in (("MUSE_", Settings), ("MUSE_ROUTING_", RoutingSettings)):
        for name in settings.model_fields:
            assert f"{prefix}{name.upper()} " in text
    assert str(ROOT) not in text


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


def test_an_altered_model_file_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for model, name in (("silero-vad", "silero_vad.onnx"), ("smart-turn", "smart-turn-v3.2-cpu.onnx")):
        (tmp_path / model).mkdir()
        (tmp_path / model / name).write_bytes(b"altered")
    monkeypatch.setenv("MUSE_MODELS_DIR", str(tmp_path))
    line = failure(capsys, "--port", "0")
    assert ".onnx" in line
    assert hashlib.sha256(b"altered").hexdigest() in line


def test_a_missing_package_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def build_detectors(*_: object) -> None:
        raise ModuleNotFoundError(name="onnxruntime")

    monkeypatch.setattr(engines, "build_detectors", build_detectors)
    assert "muse-voice[embedded]" in failure(capsys, "--port", "0")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////proc/nowhere/muse.db", "/proc/nowhere/muse.db"),
        ("postgresql+psycopg://muse:hunter2@127.0.0.1:9/muse", "127.0.0.1:9"),
        ("nonesuch", "expected"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("MUSE_ROUTING_DATABASE", url)
    line = failure(capsys, "--port", "0", "--engine", "echo")
    assert told in line
    assert "hunter2" not in line


def test_a_bad_routing_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_ROUTING_NETUID", "x")
    assert failure(capsys, "--port", "0", "--engine", "echo").startswith("muse: MUSE_ROUTING_NETUID: ")


def test_a_worker_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, "--port", "0", "--engine", "ws://127.0.0.1:9")
    assert "127.0.0.1:9" in line


def test_what_start_up_has_made_is_not_looked_at_again() -> None:
    made = [object()]
    assert any(one is made for one in gc.get_objects())
    _settle()
    try:
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_what_is_no_setting_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUSE_NONESUCH", "MUSE_ROUTING_NONESUCH", "MUSE_HUB_MIRROR", "MUSE_WORKER_KEY", "MUSE_ROUTING_TOP"):
        monkeypatch.setenv(name, "1")
    with caplog.at_level(logging.WARNING, "server"):
        _access_policy(Settings())
    told = [record.getMessage() for record in caplog.records if "is not a setting" in record.getMessage()]
    assert told == ["MUSE_NONESUCH is not a setting", "MUSE_ROUTING_NONESUCH is not a setting"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """`python -m server` with the echo engine on a free port."""
    command = [sys.executable, "-m", "server", "--engine", "echo", "--port", "0"]
    environment = os.environ | {"MUSE_LOG_JSON": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(process: subprocess.Popen[str], sent: signal.Signals) -> None:
    assert process.stderr is not None
    url = ""
    while not url:
        url = json.loads(process.stderr.readline()).get("url", "")
    address = url.replace("http", "ws") + "/v1/realtime"
    with connect(address) as stock, connect(address + "?extensions=muse") as client:
        assert json.loads(stock.recv())["type"] == "session.created"
        assert json.loads(client.recv())["type"] == "session.created"
        process.send_signal(sent)
        notice = json.loads(client.recv())
        assert (notice["type"], notice["code"]) == ("muse.notice", "server_restarting")
        with pytest.raises(ConnectionClosed):  # told by the close alone: a stock client takes any error for the end
            stock.recv()
        assert stock.close_code == 1012
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1012
    assert process.wait(PATIENCE) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_signal_that_comes_before_the_server_listens_for_it_is_not_lost() -> None:
    early = "import signal, sys; from server import __main__ as it; it._settle = lambda: signal.raise_signal({})"
    program = early.format(int(signal.SIGTERM)) + "; sys.exit(it.main(['--engine', 'echo', '--port', '0']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
