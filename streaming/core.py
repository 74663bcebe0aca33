"""What the parts of one session share: its settings, and the box that its outputs leave through."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, replace

from streaming.config import SessionConfig
from streaming.engine import DetectorCommand, EngineCommand, EngineInfo
from streaming.errors import PeerError
from streaming.observations import CloseSession, Observation
from streaming.server_events import ErrorDetail, ErrorEvent, ServerEvent

Output = ServerEvent | EngineCommand | DetectorCommand | Observation | CloseSession

MS = 1_000_000
"""Nanoseconds in a millisecond."""

SECOND = 1000 * MS
"""Nanoseconds in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What the operator decides about every session. Times are in ns.

    `lead`: how far ahead of real time a reply is sent. `frame`: the length of an audio delta. `ahead`: how much faster
    than real time a client's audio may come. `longest_turn`: the audio that one turn may hold, the user's or, of a
    duplex engine, a reply's. `idle`: without a word
    from the client for so long, the session is closed. `longest`: so is a session that has lasted so long, after a
    warning `warning` before. `extensions`: the client understands `muse.*` events, and ducks the reply by itself.
    """

    lead: int = 400 * MS
    frame: int = 40 * MS
    ahead: int = 30 * SECOND
    longest_turn: int = 120 * SECOND
    idle: int | None = 600 * SECOND
    longest: int | None = 3600 * SECOND
    warning: int = 60 * SECOND
    extensions: bool = False


class Outbox:
    """A session's outputs in order. Names given out here are unique in the session, and the same on a replay.

    `taken`: the names that a client has chosen for its items; none of them is given out.
    """

    def __init__(self, session_id: str, *, taken: Container[str] = ()) -> None:
        self._suffix = session_id.rpartition("_")[2]
        self._taken = taken
        self._queue: deque[Output] = deque()
        self._counts: dict[str, int] = {}

    def name(self, kind: str) -> str:
        """A fresh id, such as `item_<session>_3`."""
        while True:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if (name := f"{kind}_{self._suffix}_{count}") not in self._taken:
                return name

    def send(self, event: ServerEvent) -> None:
        """To the client, with a fresh event id."""
        self._queue.append(replace(event, event_id=self.name("event")))

    def put(self, output: EngineCommand | DetectorCommand | Observation | CloseSession) -> None:
        """To the engine, a detector or the operator."""
        self._queue.append(output)

    def refuse(self, error: PeerError, event_id: str | None) -> None:
        """Tell the client what it did wrong."""
        detail = ErrorDetail(
            type="invalid_request_error",
            code=error.code,
            message=error.message,
            param=error.param,
            event_id=event_id or error.event_id,
        )
        self.send(ErrorEvent(error=detail))

    def poll(self) -> Output | None:
        """The next output."""
        return self._queue.popleft() if self._queue else None


@dataclass(slots=True)
class Core:
    """One session's settings as they are now, its engine, and its outbox."""

    config: SessionConfig
    engine: EngineInfo
    options: SessionOptions
    out: Outbox
