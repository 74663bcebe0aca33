"""An engine that follows a script, to the sample and the nanosecond: for tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.event_queue import EventQueue
from models.turn_based import Emit, ReplyWork, TurnBasedEngine, TurnBasedSession, spans
from streaming.engine import (
    EngineEvent,
    EngineInfo,
    ReplyAudio,
    ReplyEnded,
    ReplyStage,
    ReplyText,
    Samples,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from streaming.errors import EngineError

RATE = 24_000

Sleep = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedTurn:
    """What one turn hears and answers. Times in seconds.

    `heard` comes `transcribe` after the turn, None for a failure. The words come `think` after the reply was asked for
    and the words heard, then the audio: `seconds` of it, a `chunk` at a time, each made in `chunk * pace`.
    `fails_after` seconds of audio the reply fails.
    """

    text: str = "This is a scripted reply."
    seconds: float = 1.5
    heard: str | None = "scripted words"
    transcribe: float = 0.0
    think: float = 0.0
    chunk: float = 0.25
    pace: float = 0.0
    fails_after: float | None = None


class ScriptedEngine(TurnBasedEngine):
    """Each conversation goes through `script` turn by turn, and then from its beginning.

    `sleep` and `clock` (monotonic ns) may be virtual.
    """

    def __init__(
        self,
        script: Sequence[ScriptedTurn],
        *,
        clock: Callable[[], int],
        max_sessions: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(max_sessions)
        if not script:
            raise ValueError("a script needs a turn")
        self._script = tuple(script)
        self._clock = clock
        self._sleep = sleep

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(model="muse-scripted", input_rate=16_000, output_rate=RATE, voices=("scripted",))

    async def start(self) -> None:
        """There is nothing to load."""

    def _new_session(
        self, session_id: str, queue: EventQueue, on_closed: Callable[[TurnBasedSession], None]
    ) -> TurnBasedSession:
        del session_id
        turns = _Turns(self._script, queue.put, self._sleep)
        return TurnBasedSession(
            queue=queue,
            turns=turns,
            new_reply=lambda command, emit: _Reply(
                command, turns.of_reply(command), turns, emit=emit, sleep=self._sleep, clock=self._clock
            ),
            on_closed=on_closed,
        )

    async def _stop(self) -> None:
        pass


def waveform(turn: ScriptedTurn, start: int, end: int) -> Samples:
    """Samples `start` to `end` of a turn's audio: a tone whose pitch tells turns of other words apart."""
    pitch = 200 + 10 * (sum(turn.text.encode()) % 40)
    positions = np.arange(start, end, dtype=np.float64)
    return (0.2 * np.sin(2 * np.pi * pitch * positions / RATE)).astype(np.float32)


class _Turns:
    """Which turn of the script each item and each typed turn is."""

    def __init__(self, script: Sequence[ScriptedTurn], put: Callable[[EngineEvent], None], sleep: Sleep) -> None:
        self._script = script
        self._put = put
        self._sleep = sleep
        self._numbers: dict[str, int] = {}
        self._finding: dict[str, asyncio.Task[None]] = {}

    def start(self, command: Transcribe) -> None:
        turn = self._turn(command.item_id)
        if earlier := self._finding.pop(command.item_id, None):
            earlier.cancel()
        self._finding[command.item_id] = asyncio.create_task(self._find(command, turn))

    def of_reply(self, command: StartReply) -> ScriptedTurn:
        item_id = command.messages[-1].item_id if command.messages else None
        return self._turn(item_id or command.response_id)

    async def heard(self, command: StartReply) -> None:
        """Returns when the words of the last message are there."""
        last = command.messages[-1] if command.messages else None
        if last is not None and last.text is None and (finding := self._finding.get(last.item_id or "")):
            await asyncio.wait({finding})

    async def close(self) -> None:
        for task in self._finding.values():
            task.cancel()
        await asyncio.gather(*self._finding.values(), return_exceptions=True)

    def _turn(self, key: str) -> ScriptedTurn:
        number = self._numbers.setdefault(key, len(self._numbers))
        return self._script[number % len(self._script)]

    async def _find(self, command: Transcribe, turn: ScriptedTurn) -> None:
        await self._sleep(turn.transcribe)
        if turn.heard is None:
            failed = TranscriptFailed(item_id=command.item_id, revision=command.revision, message="scripted failure")
            self._put(failed)
        else:
            self._put(Transcript(item_id=command.item_id, revision=command.revision, text=turn.heard))


class _Reply(ReplyWork):
    """One reply; a provisional one gives its words and first chunk and waits."""

    def __init__(
        self,
        command: StartReply,
        turn: ScriptedTurn,
        turns: _Turns,
        *,
        emit: Emit,
        sleep: Sleep,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(command, emit)
        self._turn = turn
        self._turns = turns
        self._sleep = sleep
        self._clock = clock

    async def run(self) -> None:
        response_id, text = self._command.response_id, self._turn.text
        await self._turns.heard(self._command)
        await self._emit(ReplyStage(response_id=response_id, stage="transcribe", at=self._clock()))
        await self._sleep(self._turn.think)
        await self._emit(ReplyStage(response_id=response_id, stage="first_token", at=self._clock()))
        await self._emit(ReplyText(response_id=response_id, text=text))
        if self._command.speaks:
            await self._speak()
        elif self._turn.fails_after is not None:
            raise EngineError("scripted failure")
        await self._wanted.wait()
        words = len(text.split())
        await self._emit(ReplyEnded(response_id=response_id, reason="completed", input_tokens=1, output_tokens=words))

    async def _speak(self) -> None:
        turn, response_id = self._turn, self._command.response_id
        total = round(turn.seconds * RATE)
        for start, end in spans(total, round(turn.chunk * RATE)):
            if turn.fails_after is not None and start >= turn.fails_after * RATE:
                raise EngineError("scripted failure")
            await self._sleep((end - start) / RATE * turn.pace)
            if not start:
                await self._emit(ReplyStage(response_id=response_id, stage="first_audio", at=self._clock()))
            text_end = len(turn.text) * end // total
            await self._emit(ReplyAudio(response_id=response_id, audio=waveform(turn, start, end), text_end=text_end))
            await self._wanted.wait()
