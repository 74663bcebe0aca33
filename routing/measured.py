"""What an engine is seen to do in one conversation, at the seam: frames that come back late, and whether it failed.

It is seen the same way whether somebody hears the conversation or not, so that the two may be compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from streaming.engine import (
    EngineCommand,
    EngineEvent,
    EngineInfo,
    EngineLost,
    EngineSession,
    HearAudio,
    ReplyFailed,
    Speech,
)

TICK_NS = 80_000_000
"""How often a duplex engine makes a frame."""

LATE_NS = 2 * TICK_NS
"""A frame is late that comes back later than this: it waits for one tick and is made in another."""

CLIENTS_FAULTS = frozenset(("speech_needed", "turn_too_long", "language_unsupported"))
"""Failures of a reply that say nothing of the engine: the client asked for what the model cannot do."""

_MOST_SENT = 512
"""Pieces of audio that are remembered while nothing comes back: 10 s in pieces of 20 ms."""

_REPORT_FRAMES = 25


class FrameMeter:
    """How many ticks a duplex engine misses. Positions are in samples at `rate`, times in ns.

    A frame is due when the audio that it answers has been sent, and not before its own length has passed since the
    one before was: an engine hears no faster than real time, however fast a client sends. The first is never late: the
    engine was taking its prompt in. What follows one that was late is measured from when that came.
    """

    def __init__(self, rate: int, *, late: int = LATE_NS) -> None:
        self._rate = rate
        self._late = late
        self._sent: deque[tuple[int, int]] = deque(maxlen=_MOST_SENT)  # (position after it, when)
        self._position = 0
        self._answered = 0
        self._due: int | None = None

    def sent(self, samples: int, *, now: int) -> None:
        """So much more of the user's audio was given to the engine."""
        self._position += samples
        self._sent.append((self._position, now))

    def came(self, heard: int, *, now: int) -> int:
        """A frame came that was made when the engine had heard `heard` samples: by how many ticks was it late?"""
        while self._sent and self._sent[0][0] < heard:
            self._sent.popleft()
        if not self._sent or heard <= self._answered:
            return 0  # it answers nothing that was sent: nobody waits for it
        given = self._sent[0][1]
        spoken = (heard - self._answered) * 1_000_000_000 // self._rate
        due = now if self._due is None else max(given, self._due + spoken)
        missed = (now - due) // TICK_NS if now - due > self._late else 0
        self._answered, self._due = heard, now if missed else due
        return missed


class MeasuredSession:
    """An `EngineSession` that is watched. `clock` gives monotonic ns.

    `on_frames(count, late)` is told of late frames at once, and of others now and then. One that is late by several
    ticks counts for as many.
    """

    def __init__(
        self,
        session: EngineSession,
        info: EngineInfo,
        *,
        clock: Callable[[], int],
        on_frames: Callable[[int, int], None],
    ) -> None:
        self._session = session
        self._meter = FrameMeter(info.input_rate) if info.duplex else None
        self._clock = clock
        self._on_frames = on_frames
        self._frames = self._late = 0
        self._closed = False
        self.lost = False
        """The engine went away in mid-conversation."""
        self.failed = False
        """It went away, or could not finish a reply that it should have."""
        self.answered = False
        """It has answered a turn of the user's; whoever measures turns says so."""

    def send(self, command: EngineCommand) -> None:
        """See `EngineSession.send`."""
        if self._meter is not None and isinstance(command, HearAudio):
            self._meter.sent(len(command.audio), now=self._clock())
        self._session.send(command)

    async def events(self) -> AsyncIterator[EngineEvent]:
        """See `EngineSession.events`."""
        try:
            async for event in self._session.events():
                self._see(event)
                yield event
        except Exception:
            self._lose()
            raise
        self._lose()  # a session's events end when it is closed, and not before

    async def close(self) -> None:
        """See `EngineSession.close`."""
        self._closed = True
        self._report()
        await self._session.close()

    def _see(self, event: EngineEvent) -> None:
        match event:
            case Speech() if self._meter is not None:
                missed = self._meter.came(event.heard, now=self._clock())
                self._frames += max(1, missed)
                self._late += missed
                if self._late or self._frames >= _REPORT_FRAMES:
                    self._report()
            case EngineLost():
                self._lose()
            case ReplyFailed() if event.code not in CLIENTS_FAULTS:
                self.failed = True

    def _lose(self) -> None:
        if not self._closed:
            self.lost = self.failed = True

    def _report(self) -> None:
        if self._frames:
            self._on_frames(self._frames, self._late)
        self._frames = self._late = 0
