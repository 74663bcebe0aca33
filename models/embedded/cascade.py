"""One conversation with the embedded engine: its commands in, its events out."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import assert_never

from models.embedded.event_queue import EventQueue
from models.embedded.parts import ChatModel, Ears, Voice
from models.embedded.reply import Reply, ReplyParts
from models.embedded.transcripts import Transcripts
from streaming.engine import (
    CancelReply,
    ConfirmReply,
    EngineCommand,
    EngineEvent,
    EngineLost,
    HearAudio,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    ReplyToolCall,
    StartReply,
    Transcribe,
)
from streaming.errors import EngineError

_log = logging.getLogger(__name__)

_OF_A_REPLY = (ReplyText, ReplyAudio, ReplyStage, ReplyToolCall, ReplyEnded, ReplyFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeOptions:
    """`events` is how many may wait for the reader, `replies` how many may be made at once."""

    events: int = 16
    replies: int = 4
    provisional_audio: float = 0.5


class CascadeSession:
    """See `streaming.engine.EngineSession`. `on_closed` is called once, when the slot is free again."""

    def __init__(
        self,
        session_id: str,
        *,
        ears: Ears,
        chat: ChatModel,
        voice: Voice,
        clock: Callable[[], int],
        on_closed: Callable[[CascadeSession], None],
        options: CascadeOptions,
    ) -> None:
        self._session_id = session_id
        self._chat = chat
        self._voice = voice
        self._clock = clock
        self._on_closed = on_closed
        self._options = options
        self._queue = EventQueue(options.events)
        self._transcripts = Transcripts(session_id, ears, put=self._queue.put, clock=clock)
        self._replies: dict[str, Reply] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def send(self, command: EngineCommand) -> None:
        """See `EngineSession.send`."""
        if self._closed:
            return
        match command:
            case Transcribe():
                self._transcripts.start(command)
            case StartReply():
                self._start(command)
            case ConfirmReply():
                if reply := self._replies.get(command.response_id):
                    reply.confirm()
            case CancelReply():
                self._cancel(command.response_id)
            case HearAudio():
                pass  # a turn-based engine is given whole turns
            case _:
                assert_never(command)

    def events(self) -> AsyncIterator[EngineEvent]:
        """See `EngineSession.events`."""
        return self._queue.read()

    def lose(self, message: str) -> None:
        """Tell the reader that the engine is going."""
        self._queue.put(EngineLost(message=message))

    async def close(self) -> None:
        """See `EngineSession.close`."""
        if self._closed:
            return
        self._closed = True
        tasks = list(self._tasks.values())
        for response_id in list(self._replies):
            self._cancel(response_id)
        self._queue.close()
        await asyncio.gather(self._transcripts.close(), *tasks, return_exceptions=True)
        self._on_closed(self)

    def _start(self, command: StartReply) -> None:
        response_id = command.response_id
        if response_id in self._replies:
            return
        if len(self._replies) >= self._options.replies:
            message = "too many replies are being made in this session"
            self._queue.put(ReplyFailed(response_id=response_id, code="engine_overloaded", message=message))
            return

        async def emit(event: EngineEvent) -> None:
            await self._queue.wait_for_room()
            if self._replies.get(response_id) is reply:
                self._queue.put(event)

        parts = ReplyParts(
            chat=self._chat,
            voice=self._voice,
            hear=self._transcripts.hear,
            emit=emit,
            clock=self._clock,
            provisional_audio=self._options.provisional_audio,
        )
        reply = self._replies[response_id] = Reply(self._session_id, command, parts)
        self._tasks[response_id] = asyncio.create_task(self._run(response_id, reply))

    async def _run(self, response_id: str, reply: Reply) -> None:
        code, message = "engine_error", "the reply could not be made"
        try:
            await reply.run()
        except EngineError as error:
            code, message = error.code, error.message
        except Exception as error:  # one reply's defect must not end the conversation
            # An exception's message may hold words that were said: only its type and place are logged.
            place = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s while making a reply\n%s", type(error).__name__, place)
        else:
            self._forget(response_id, reply)
            return
        if self._replies.get(response_id) is reply:
            self._queue.put(ReplyFailed(response_id=response_id, code=code, message=message))
        self._forget(response_id, reply)

    def _forget(self, response_id: str, reply: Reply) -> None:
        if self._replies.get(response_id) is reply:
            del self._replies[response_id], self._tasks[response_id]

    def _cancel(self, response_id: str) -> None:
        if self._replies.pop(response_id, None) is not None:
            self._tasks.pop(response_id).cancel()
        # What the reply has left unread goes too, even where it has ended.
        self._queue.take_back(lambda event: isinstance(event, _OF_A_REPLY) and event.response_id == response_id)
