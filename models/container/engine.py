"""A miner's container as an engine: each spoken turn is sent to it, and its answer spoken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from models.container.client import RATE, ContainerClient, ContainerOptions
from models.event_queue import EventQueue
from models.turn_audio import TurnAudio
from models.turn_based import Emit, ReplyWork, TurnBasedEngine, TurnBasedSession, spans
from streaming.audio import NS
from streaming.engine import (
    ChatMessage,
    EngineEvent,
    EngineInfo,
    ReplyAudio,
    ReplyEnded,
    ReplyStage,
    ReplyText,
    Samples,
    Stage,
    StartReply,
    Transcribe,
    TranscriptFailed,
)
from streaming.errors import EngineError

_CHUNK = RATE // 2
_AHEAD = 4.0  # seconds of a reply given out before they are heard; what stands in the queue delays what is behind it
_NO_WORDS = "this model does not find the words of what it hears"


class ContainerEngine(TurnBasedEngine):
    """Conversations with one container; it knows nothing of a conversation but the turn that it is to answer.

    `url`, `key` and `clock` (monotonic ns) as in `ContainerClient`; `model` is the name that clients know it by.
    Instructions, voice, speed and length are not the container's to be told. Raises EngineError where `url` is not one.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int],
        max_sessions: int,
        key: str = "",
        model: str = "muse-container",
        options: ContainerOptions | None = None,
    ) -> None:
        super().__init__(max_sessions)
        self._model = model
        self._clock = clock
        self._options = options or ContainerOptions()
        self._client = ContainerClient(url, clock=clock, options=self._options, key=key)

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(model=self._model, input_rate=RATE, output_rate=RATE, transcribes=False, instructed=False)

    async def start(self) -> None:
        """See `Engine.start`: waits for the container, which may take minutes to load."""
        await self._client.start()

    async def open(self, session_id: str) -> TurnBasedSession:
        """See `Engine.open`; EngineBusyError also while the container is broken."""
        session = await super().open(session_id)
        try:
            await self._client.ready()
        except BaseException:  # a caller that waits no longer cancels
            await session.close()
            raise
        return session

    def _new_session(
        self, session_id: str, queue: EventQueue, on_closed: Callable[[TurnBasedSession], None]
    ) -> TurnBasedSession:
        del session_id
        turns = _Turns(queue.put)
        return TurnBasedSession(
            queue=queue,
            turns=turns,
            new_reply=lambda command, emit: _Reply(
                command, turns.last(command), emit, client=self._client, options=self._options, clock=self._clock
            ),
            on_closed=on_closed,
        )

    async def _stop(self) -> None:
        await self._client.close()


class _Turns:
    """The audio of the last turns."""

    def __init__(self, put: Callable[[EngineEvent], None]) -> None:
        self._put = put
        self._audio = TurnAudio()

    def start(self, command: Transcribe) -> None:
        """Keep the audio. Its words are not to be had: told at once, so that nobody waits for them."""
        self._audio.keep(command)
        self._put(TranscriptFailed(item_id=command.item_id, revision=command.revision, message=_NO_WORDS))

    async def close(self) -> None:
        self._audio.clear()

    def last(self, command: StartReply) -> Samples | EngineError:
        """The audio of the user's last message, or why there is none."""
        message = next((message for message in reversed(command.messages) if message.role == "user"), None)
        audio = self._audio.of(message.item_id) if message else None
        return _no_audio(message) if audio is None or not audio.size else audio


def _no_audio(message: ChatMessage | None) -> EngineError:
    if message is None:
        reason = "nothing has been said that it could answer"
    elif message.text is None:
        reason = "the audio of the last turn is empty, or no longer kept"
    else:
        reason = "the last message was written"
    return EngineError(f"this model answers speech only: {reason}", code="speech_needed")


class _Reply(ReplyWork):
    """One reply. A provisional one is asked for, gives its words and first half second, and waits."""

    def __init__(
        self,
        command: StartReply,
        turn: Samples | EngineError,
        emit: Emit,
        *,
        client: ContainerClient,
        options: ContainerOptions,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(command, emit)
        self._turn = turn
        self._client = client
        self._options = options
        self._clock = clock

    async def run(self) -> None:
        """See `ReplyWork.run`. An answer of no samples is a reply without audio."""
        response_id, speaks = self._command.response_id, self._command.speaks
        audio = self._audio()
        if not self._options.speculate:
            await self._wanted.wait()
        async with self._client.turn():
            begun = self._clock()
            answer = await self._client.ask("v2v" if speaks else "v2t", audio)
        await self._stage("queue", begun)
        await self._stage("first_audio" if speaks else "first_token", self._clock())
        text = answer.text or ""
        if text:
            await self._emit(ReplyText(response_id=response_id, text=text))
        if speaks and answer.audio is not None:
            await self._speak(answer.audio, len(text))
        await self._wanted.wait()
        await self._emit(ReplyEnded(response_id=response_id, reason="completed", input_tokens=0, output_tokens=0))

    def _audio(self) -> Samples:
        if isinstance(self._turn, EngineError):
            raise self._turn
        most = self._options.longest_turn
        if self._turn.size > most * RATE:
            raise EngineError(f"this model answers turns of at most {most:g} s", code="turn_too_long")
        return self._turn

    async def _speak(self, audio: Samples, characters: int) -> None:
        """Emit the audio, a few seconds ahead of the listener. Where each word is in it is not known: evenly."""
        began: int | None = None
        for start, end in spans(audio.size, _CHUNK):
            if began is not None:
                await asyncio.sleep(max(0.0, start / RATE - _AHEAD - (self._clock() - began) / NS))
            await self._emit(
                ReplyAudio(
                    response_id=self._command.response_id,
                    audio=audio[start:end],
                    text_end=characters * end // audio.size,
                )
            )
            await self._wanted.wait()
            began = self._clock() if began is None else began

    async def _stage(self, stage: Stage, at: int) -> None:
        await self._emit(ReplyStage(response_id=self._command.response_id, stage=stage, at=at))
