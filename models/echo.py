"""An engine without models: it answers a turn with the turn's own audio. What is slow beside it is the gateway."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.event_queue import EventQueue
from models.turn_audio import TurnAudio
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
)

RATE = 24_000
WORDS = "echo"

_CHUNK = RATE // 2
_NOTHING: Samples = np.zeros(0, np.float32)


class EchoEngine(TurnBasedEngine):
    """Takes and gives 24 kHz, so that the audio of most clients is not resampled. `clock` is monotonic ns."""

    def __init__(self, *, clock: Callable[[], int], max_sessions: int) -> None:
        super().__init__(max_sessions)
        self._clock = clock

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(model="muse-echo", input_rate=RATE, output_rate=RATE, voices=("echo",))

    async def start(self) -> None:
        """There is nothing to load."""

    def _new_session(
        self, session_id: str, queue: EventQueue, on_closed: Callable[[TurnBasedSession], None]
    ) -> TurnBasedSession:
        del session_id
        turns = _Turns(queue.put)
        return TurnBasedSession(
            queue=queue,
            turns=turns,
            new_reply=lambda command, emit: _Echo(command, turns, emit, self._clock()),
            on_closed=on_closed,
        )

    async def _stop(self) -> None:
        pass


class _Turns:
    """The audio of the last turns."""

    def __init__(self, put: Callable[[EngineEvent], None]) -> None:
        self._put = put
        self._audio = TurnAudio()

    def start(self, command: Transcribe) -> None:
        self._audio.keep(command)
        self._put(Transcript(item_id=command.item_id, revision=command.revision, text=WORDS))

    async def close(self) -> None:
        self._audio.clear()

    def answer(self, command: StartReply) -> tuple[str, Samples]:
        """The last message's words and, where it was spoken, its audio."""
        if not command.messages:
            return WORDS, _NOTHING
        last = command.messages[-1]
        audio = self._audio.of(last.item_id)
        return last.text or WORDS, _NOTHING if audio is None else audio


class _Echo(ReplyWork):
    """One reply; a provisional one gives its first half second and waits."""

    def __init__(self, command: StartReply, turns: _Turns, emit: Emit, now: int) -> None:
        super().__init__(command, emit)
        self._turns = turns
        self._now = now

    async def run(self) -> None:
        response_id = self._command.response_id
        text, audio = self._turns.answer(self._command)
        await self._emit(ReplyText(response_id=response_id, text=text))
        if self._command.speaks:
            await self._emit(ReplyStage(response_id=response_id, stage="first_audio", at=self._now))
            for start, end in spans(audio.size, _CHUNK):
                text_end = len(text) * end // audio.size
                event = ReplyAudio(response_id=response_id, audio=audio[start:end], text_end=text_end)
                await self._emit(event)
                await self._wanted.wait()
        await self._wanted.wait()
        await self._emit(ReplyEnded(response_id=response_id, reason="completed", input_tokens=0, output_tokens=0))
