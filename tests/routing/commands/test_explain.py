from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from routing.commands import explain
from routing.control import STATE
from routing.leaderboard import Entry, Snapshot
from routing.policy.contract import Rollout
from routing.settings import PREFIX
from routing.snapshot_file import write
from routing.storage.database import open_database
from routing.storage.state import StateStore
from streaming.engine import EngineInfo
from streaming.errors import EngineError, MuseError, PeerError
from streaming.schema import to_json

Call = Callable[..., int]

BEST, OTHER = f"acme/best@{'a' * 40}", f"acme/other@{'b' * 40}"


def entry(uid: int, key: str, incentive: float) -> Entry:
    model, _, commit = key.partition("@")
    return Entry(uid=uid, hotkey=None, model=model, commit=commit, block=uid, competition=None, incentive=incentive)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs the command on a leaderboard of two, away from this machine's own files."""
    entries = (entry(1, BEST, 0.6), entry(2, OTHER, 0.3))
    write(
        tmp_path / "board.json",
        Snapshot(source="file", network="local", netuid=0, competition=None, block=1, taken_at=0.0, entries=entries),
    )
    monkeypatch.setenv(f"{PREFIX}DATABASE", f"sqlite:///{tmp_path}/muse.db")

    def run(*arguments: str) -> int:
        parser = argparse.ArgumentParser()
        explain.add_options(parser)
        return explain.run(parser.parse_args(["--snapshot", str(tmp_path / "board.json"), *arguments]))

    return run


def test_the_leader_is_explained(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--session", "sess_1") == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"sess_1 gets {BEST} (incumbent)")
    assert "Why:\n  incumbent: " in told.out
    assert "ready worker" in told.err


def test_a_model_that_is_asked_for_is_explained_as_json(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--session", "sess_1", "--model", "acme/other", "--json") == 0
    decision = json.loads(capsys.readouterr().out)
    assert (decision["object"], decision["version"], decision["role"]) == ("decision", OTHER, "requested")
    assert decision["reasons"][0]["code"] == "requested"


def test_the_stored_rollout_is_gone_by(call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/muse.db")
    rollout = to_json(Rollout(stage="settled", incumbent=OTHER))
    asyncio.run(StateStore(database).save(STATE, rollout, revision=0))
    database.close()
    assert call("--session", "sess_1") == 0
    told = capsys.readouterr().out
    assert told.startswith(f"sess_1 gets {OTHER} (incumbent)")
    assert f"Passed over:\n  {BEST}: " in told


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (("--model", "nonesuch"), PeerError, "nonesuch"),
        (("--mode", "half"), PeerError, "mode: expected duplex or turn_based"),
        (("--worker", "echo"), EngineError, "--worker: expected ws://host:port, got 'echo'"),
        (("--worker", "ws://127.0.0.1:9"), EngineError, "ws://127.0.0.1:9 does not say what it is"),
        (("--server", "http://127.0.0.1:9"), EngineError, "http://127.0.0.1:9 cannot be asked"),
        (("--server", "nonesuch"), EngineError, "nonesuch cannot be asked"),
        (("--server", "http://127.0.0.1:9", "--api-key", "clé"), EngineError, "http://127.0.0.1:9 cannot be asked"),
    ],
)
def test_what_cannot_be_is_named(call: Call, arguments: tuple[str, ...], error: type[MuseError], told: str) -> None:
    with pytest.raises(error) as raised:
        call("--session", "sess_1", *arguments)
    assert told in str(raised.value)


class Canned(BaseHTTPRequestHandler):
    """Answers with `answers[path]`, and keeps what it was asked."""

    answers: dict[str, tuple[int, str]]
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        status, body = self.answers[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Canned]]]:
    handler = type("Handler", (Canned,), {"answers": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", handler
        listening.shutdown()
        thread.join()


def test_a_worker_that_is_there_is_asked_what_it_is(
    call: Call, server: tuple[str, type[Canned]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, handler = server
    address = url.replace("http", "ws")
    info = EngineInfo(model=OTHER, input_rate=24_000, output_rate=24_000, duplex=True)
    health = {"status": "ok", "engine": to_json(info), "slots": 4, "free": 3}
    handler.answers["/health"] = 200, json.dumps(health)
    assert call("--session", "sess_1", "--worker", address) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"sess_1 gets {OTHER} (incumbent) on {address}")
    assert f"{BEST}: no worker has it" in told


def test_a_server_is_asked(call: Call, server: tuple[str, type[Canned]], capsys: pytest.CaptureFixture[str]) -> None:
    url, handler = server
    decision = {
        "object": "decision",
        "model": "m",
        "version": "m@1",
        "role": "candidate",
        "worker": "w1",
        "shadow": "w2",
        "reasons": [{"code": "canary", "text": "on trial"}],
        "passed_over": [],
        "of_a_later_version": 1,
    }
    handler.answers["/v1/leaderboard/explain"] = 200, json.dumps(decision)
    assert call("--session", "sess 1", "--mode", "duplex", "--server", f"{url}/", "--api-key", "secret") == 0
    assert handler.asked == [("/v1/leaderboard/explain?session=sess+1&mode=duplex", "Bearer secret")]
    assert capsys.readouterr().out.startswith("sess 1 gets m@1 (candidate) on w1\nand w2 hears it unheard\n")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((503, '{"error": {"message": "All are full."}}'), "All are full."),
        ((401, "[]"), "refuses, and does not say why"),
        ((404, "<html>"), "does not answer as Muse does (HTTP 404)"),
        ((200, '{"object": "decision"}'), "does not answer as Muse does: decision.model: is required"),
    ],
)
def test_a_server_that_refuses_or_is_another_is_told(
    call: Call, server: tuple[str, type[Canned]], answer: tuple[int, str], told: str
) -> None:
    url, handler = server
    handler.answers["/v1/leaderboard/explain"] = answer
    with pytest.raises(EngineError) as raised:
        call("--session", "sess_1", "--server", url)
    assert told in str(raised.value)
