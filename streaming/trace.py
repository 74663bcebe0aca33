"""Record a session, and replay it to the same outputs.

A trace is JSON lines: a header with all that the session was made from, then what was done to it, in order, with the
time, each followed by what came out. A session is a function of these, so replaying a trace on the same version gives
the same outputs, and on another version shows the first difference. A trace holds the audio and the words of a
conversation: record only where the user has agreed to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from streaming.client_events import ClientEvent
from streaming.config import SessionConfig
from streaming.core import Output, SessionOptions
from streaming.engine import DetectorEvent, EngineEvent, EngineInfo
from streaming.errors import MuseError, PeerError
from streaming.schema import from_json, to_json
from streaming.server_events import NoticeCode
from streaming.session import Input, Session

VERSION = 1

_INPUTS: dict[str, type[Any]] = {
    cls.__name__: cls for union in (ClientEvent, EngineEvent, DetectorEvent) for cls in get_args(union)
}


class TraceError(MuseError):
    """A trace that cannot be read, or does not replay to what it recorded; the message names the line."""


class Recorder:
    """A `Session` whose every call and output is written down, a line at a time, through `write`."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        session_id: str,
        config: SessionConfig,
        engine: EngineInfo,
        options: SessionOptions,
        now: int,
    ) -> None:
        self._write = write
        header = {"config": to_json(config), "engine": to_json(engine), "options": to_json(options)}
        self._line({"muse_trace": VERSION, "session_id": session_id, "at": now, **header})
        self._session = Session(session_id=session_id, config=config, engine=engine, options=options, now=now)

    @property
    def backlog(self) -> float:
        """See `Session.backlog`."""
        return self._session.backlog

    @property
    def busy(self) -> bool:
        """See `Session.busy`."""
        return self._session.busy

    @property
    def closed(self) -> bool:
        """See `Session.closed`."""
        return self._session.closed

    def receive(self, event: Input, *, now: int) -> None:
        """See `Session.receive`."""
        self._line({"at": now, "in": type(event).__name__, "event": to_json(event)})
        self._session.receive(event, now=now)

    def refuse(self, error: PeerError, *, now: int) -> None:
        """See `Session.refuse`."""
        fields = {"message": error.message, "code": error.code, "param": error.param, "event_id": error.event_id}
        self._line({"at": now, "refuse": fields})
        self._session.refuse(error, now=now)

    def notify(self, code: NoticeCode, message: str) -> None:
        """See `Session.notify`."""
        self._line({"notify": {"code": code, "message": message}})
        self._session.notify(code, message)

    def next_timeout(self) -> int | None:
        """See `Session.next_timeout`."""
        return self._session.next_timeout()

    def handle_timeout(self, *, now: int) -> None:
        """See `Session.handle_timeout`."""
        self._line({"at": now, "timeout": True})
        self._session.handle_timeout(now=now)

    def poll(self) -> Output | None:
        """See `Session.poll`."""
        output = self._session.poll()
        if output is not None:
            self._line(_output_line(output))
        return output

    def _line(self, fields: dict[str, Any]) -> None:
        self._write(json.dumps(fields, separators=(",", ":")) + "\n")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay went through."""

    inputs: int
    outputs: int


def replay(lines: Iterable[str]) -> Replay:
    """Do again what a trace recorded. Raises TraceError at the first output that differs."""
    numbered = enumerate(lines, start=1)
    _, header = next(numbered, (1, ""))
    session = _session_of(header)
    inputs = outputs = 0
    for number, text in numbered:
        line = _parse(number, text)
        if "out" in line:
            outputs += 1
            _compare(number, line, session.poll())
            continue
        inputs += 1
        _compare(number, None, session.poll())
        _apply(number, line, session)
    _compare(0, None, session.poll())
    return Replay(inputs=inputs, outputs=outputs)


def _session_of(header: str) -> Session:
    line = _parse(1, header)
    if line.get("muse_trace") != VERSION:
        raise TraceError(f"line 1: expected a header with muse_trace {VERSION}")
    try:
        return Session(
            session_id=line["session_id"],
            config=from_json(SessionConfig, line["config"]),
            engine=from_json(EngineInfo, line["engine"], path="engine"),
            options=from_json(SessionOptions, line["options"], path="options"),
            now=line["at"],
        )
    except (PeerError, KeyError) as error:
        raise TraceError(f"line 1: {error}") from error


def _apply(number: int, line: dict[str, Any], session: Session) -> None:
    try:
        if "notify" in line:
            session.notify(**line["notify"])
            return
        now = line["at"]
        if "in" in line:
            session.receive(from_json(_INPUTS[line["in"]], line["event"], path="event"), now=now)
        elif "refuse" in line:
            session.refuse(PeerError(**line["refuse"]), now=now)
        else:
            session.handle_timeout(now=now)
    except (PeerError, KeyError, TypeError) as error:
        raise TraceError(f"line {number}: not an input: {error}") from error


def _compare(number: int, recorded: dict[str, Any] | None, output: Output | None) -> None:
    made = None if output is None else _output_line(output)
    if made != recorded:
        where = f"line {number}" if number else "the end"
        raise TraceError(f"{where}: recorded {_brief(recorded)}, replayed {_brief(made)}")


def _output_line(output: Output) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(json.dumps(to_json(output)))
    return {"out": type(output).__name__, "event": fields}


def _brief(line: dict[str, Any] | None) -> str:
    return "nothing" if line is None else json.dumps(line)[:200]


def _parse(number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise TraceError(f"line {number}: not JSON: {error}") from error
    if not isinstance(line, dict):
        raise TraceError(f"line {number}: expected an object")
    return line
