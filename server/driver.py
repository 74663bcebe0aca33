"""Runs one session over one connection: feeds it, carries out what it puts out, and keeps its time.

Each input takes the same four steps: feed the session, drain its output, hand each output on, re-arm the timer. Nothing
in them waits. What waits (reading the client, reading the engine, the detectors) is a task each, and each ends by
feeding the session. The tasks live as long as `Driver.run` and no longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol

from server.metrics import Metrics
from streaming.client_events import ClientEvent
from streaming.core import Output
from streaming.engine import (
    DetectVoice,
    EngineCommand,
    EngineEvent,
    EngineLost,
    EngineSession,
    PredictTurnEnd,
    ReplyFailed,
    TranscriptFailed,
    TurnDetector,
    TurnEndProbability,
    VoiceProbability,
    VoiceStream,
)
from streaming.errors import MuseError, PeerError
from streaming.observations import CloseSession, Observation
from streaming.server_events import NoticeCode, ServerEvent
from streaming.session import Input

_log = logging.getLogger(__name__)

MAX_BACKLOG = 30.0
"""Seconds of a reply held for pacing, beyond which the engine is not read.

It bounds memory and no more: transcripts come the same way as replies, and the session needs them while one is heard.
So an engine must not run far ahead of the listener by itself.
"""

MAX_VOICE_FRAMES = 64
"""Frames (2 s) waiting for voice activity detection, beyond which the client is not read."""


class ConnectionOverError(MuseError):
    """No more events will come: `close` is how to close the connection, None where the client has closed it."""

    def __init__(self, close: CloseSession | None = None) -> None:
        super().__init__(close.reason if close else "the client has gone")
        self.close = close


class SlowConsumerError(MuseError):
    """The client reads more slowly than it is spoken to."""


class Connection(Protocol):
    """One client, on whatever wire."""

    async def receive(self) -> ClientEvent:
        """The next event. Raises PeerError for one that cannot be read, ConnectionOverError when there are no more."""

    def send(self, event: ServerEvent) -> None:
        """Queue an event; never blocks. Raises SlowConsumerError when the bounded queue is full."""


class SessionCore(Protocol):
    """`streaming.session.Session`, or a recorder around it."""

    def receive(self, event: Input, *, now: int) -> None:
        """Take an input."""

    def refuse(self, error: PeerError, *, now: int) -> None:
        """Answer a message that could not be read as an event."""

    def notify(self, code: NoticeCode, message: str) -> None:
        """Tell a client that knows Muse's own events."""

    def next_timeout(self) -> int | None:
        """When `handle_timeout` is due, monotonic ns."""

    def handle_timeout(self, *, now: int) -> None:
        """Do what is due."""

    def poll(self) -> Output | None:
        """The next output."""

    @property
    def backlog(self) -> float:
        """Seconds of reply audio held."""

    @property
    def busy(self) -> bool:
        """Whether a turn is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """One conversation's share of the models."""

    engine: EngineSession
    voice: VoiceStream
    turns: TurnDetector


class Driver:
    """One conversation.

    `clock` gives monotonic ns. `first_event` is how many seconds a client may take to send anything. `observe` is told
    what the session measures; by default the metrics are.
    """

    def __init__(
        self,
        *,
        session: SessionCore,
        connection: Connection,
        models: Models,
        metrics: Metrics,
        clock: Callable[[], int],
        first_event: float,
        observe: Callable[[Observation], None] | None = None,
    ) -> None:
        self._session = session
        self._connection = connection
        self._models = models
        self._metrics = metrics
        self._observe = observe or metrics.observe
        self._clock = clock
        self._first_event = first_event
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[CloseSession | None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: int | None = None
        self._engine_wanted = asyncio.Event()
        self._voice_frames: asyncio.Queue[DetectVoice] = asyncio.Queue()  # bounded by SessionOptions.ahead
        self._voice_room = asyncio.Event()
        self._turn: PredictTurnEnd | None = None
        self._turn_wanted = asyncio.Event()
        self._winding_down = False

    async def run(self) -> CloseSession | None:
        """Run until the conversation is over; returns how to close the connection, None when the client has gone.

        Raises what a defect raised. On every way out the tasks have ended.
        """
        workers = (self._hear_client, self._hear_engine, self._detect_voice, self._predict_turns)
        tasks = [self._loop.create_task(self._guard(worker)) for worker in workers]
        try:
            self._settle()
            return await self._over
        finally:
            self._disarm()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self, close: CloseSession) -> None:
        """End the conversation now."""
        self._end(close)

    def wind_down(self, notice: str) -> None:
        """Give the client notice that the conversation must end, and end it with 1012 once no turn is open."""
        self._winding_down = True
        self._session.notify("server_restarting", notice)
        self._settle()

    # --- the four steps ------------------------------------------------------------------------------------------

    def _feed(self, event: Input) -> None:
        if not self._over.done():
            self._session.receive(event, now=self._clock())
            self._settle()

    def _ring(self) -> None:
        self._disarm()
        try:
            self._session.handle_timeout(now=self._clock())
            self._settle()
        except Exception as error:
            self._fail(error)

    def _settle(self) -> None:
        while not self._over.done() and (output := self._session.poll()) is not None:
            self._carry_out(output)
        self._arm()
        _set(self._engine_wanted, self._session.backlog <= MAX_BACKLOG)
        _set(self._voice_room, self._voice_frames.qsize() <= MAX_VOICE_FRAMES)
        self._end_if_turn_is_over()

    def _carry_out(self, output: Output) -> None:
        if isinstance(output, DetectVoice):
            self._voice_frames.put_nowait(output)
        elif isinstance(output, PredictTurnEnd):
            self._turn = output
            self._turn_wanted.set()
        elif isinstance(output, EngineCommand):
            self._models.engine.send(output)
        elif isinstance(output, Observation):
            self._observe(output)
        elif isinstance(output, CloseSession):
            self._end(output)
        else:
            self._send(output)

    def _arm(self) -> None:
        due = None if self._over.done() else self._session.next_timeout()
        if due == self._timer_due:
            return
        self._disarm()
        if due is not None:
            # The loop's timers count whole milliseconds: round up, or the session is woken before anything is due.
            wait = max(0, -((self._clock() - due) // 1_000_000))
            self._timer = self._loop.call_later(wait / 1e3, self._ring)
            self._timer_due = due

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_due = None

    # --- what waits ----------------------------------------------------------------------------------------------

    async def _hear_client(self) -> None:
        patience: float | None = self._first_event
        while True:
            try:
                async with asyncio.timeout(patience):
                    event = await self._connection.receive()
            except PeerError as error:
                self._metrics.bad_events.inc()
                self._session.refuse(error, now=self._clock())
                self._settle()
            except ConnectionOverError as over:
                return self._end(over.close)
            except TimeoutError:
                return self._end(CloseSession(code=1008, reason="Nothing was sent."))
            else:
                self._feed(event)
            patience = None
            await self._voice_room.wait()
            await asyncio.sleep(0)  # a client that floods takes turns with the others

    async def _hear_engine(self) -> None:
        events = aiter(self._models.engine.events())
        event: EngineEvent | None = None
        while not isinstance(event, EngineLost):
            await self._engine_wanted.wait()
            try:
                event = await anext(events, EngineLost(message="The engine has ended the conversation."))
            except Exception:
                _log.exception("engine failed")
                event = EngineLost(message="The engine has failed.")
            self._count_failure(event)
            self._feed(event)

    async def _detect_voice(self) -> None:
        while True:
            frame = await self._voice_frames.get()
            probability = await self._models.voice.probability(frame.audio)
            self._feed(VoiceProbability(end=frame.end, probability=probability))
            await asyncio.sleep(0)  # nor does one that sends a minute of silence at once hold them up

    async def _predict_turns(self) -> None:
        while True:
            await self._turn_wanted.wait()
            self._turn_wanted.clear()
            turn, self._turn = self._turn, None
            if turn is None:
                continue
            try:
                probability = await self._models.turns.probability(turn.audio)
            except Exception:
                # The session's longest wait ends the turn without it.
                _log.exception("turn detector failed")
                self._metrics.engine_failed("turn_detector")
            else:
                self._feed(TurnEndProbability(end=turn.end, probability=probability))

    async def _guard(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._fail(error)

    # --- out -----------------------------------------------------------------------------------------------------

    def _send(self, event: ServerEvent) -> None:
        try:
            self._connection.send(event)
        except SlowConsumerError:
            self._metrics.slow_consumers.inc()
            self._end(CloseSession(code=1013, reason="The client reads too slowly."))

    def _count_failure(self, event: EngineEvent) -> None:
        if isinstance(event, ReplyFailed):
            self._metrics.engine_failed(event.code)
        elif isinstance(event, TranscriptFailed):
            self._metrics.engine_failed("transcription")
        elif isinstance(event, EngineLost):
            self._metrics.engine_failed("engine_lost")

    def _end_if_turn_is_over(self) -> None:
        if self._winding_down and not self._session.busy:
            self._end(CloseSession(code=1012, reason="The server is restarting."))

    def _end(self, close: CloseSession | None) -> None:
        if not self._over.done():
            self._over.set_result(close)

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)


def _set(event: asyncio.Event, wanted: bool) -> None:
    if wanted:
        event.set()
    else:
        event.clear()
