"""What every turn-based engine has in common: slots, and for each conversation its replies and their events.

An engine brings what differs: how a turn is transcribed (`Turns`) and how a reply is made (`ReplyWork`).
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol, assert_never

from models.event_queue import EventQueue
from streaming.engine import (
    Begin,
    CancelReply,
    ConfirmReply,
    EngineCommand,
    EngineEvent,
    EngineInfo,
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
from streaming.errors import EngineBusyError, EngineError
from streaming.responses import MOST_BESIDE

_log = logging.getLogger(__name__)

_OF_A_REPLY = (ReplyText, ReplyAudio, ReplyStage, ReplyToolCall, ReplyEnded, ReplyFailed)

MAX_REPLIES = MOST_BESIDE + 2
"""Replies that one conversation may have in the making: those beside it, its own, and one on speculation."""

MAX_EVENTS = 16
"""Events that may wait for a conversation's reader before its replies pause."""

Emit = Callable[[EngineEvent], Awaitable[None]]


def spans(samples: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a reply's audio is cut into chunks of `size`; the last may be shorter."""
    for start in range(0, samples, size):
        yield start, min(start + size, samples)


class ReplyWork(ABC):
    """The making of one reply. A provisional one makes its beginning and waits until it is `_wanted`."""

    def __init__(self, command: StartReply, emit: Emit) -> None:
        self._command = command
        self._emit = emit
        self._wanted = asyncio.Event()
        if not command.provisional:
            self._wanted.set()

    def confirm(self) -> None:
        """The turn is over: the reply is wanted."""
        self._wanted.set()

    @abstractmethod
    async def run(self) -> None:
        """Emit the reply's events, the last of them ReplyEnded. Raises EngineError where it cannot be finished."""


class Turns(Protocol):
    """A conversation's user turns."""

    def start(self, command: Transcribe) -> None:
        """Find the words."""

    async def close(self) -> None:
        """Give up what is being found."""


class TurnBasedSession:
    """See `streaming.engine.EngineSession`. `on_closed` is called once, when all work has ended."""

    def __init__(
        self,
        *,
        queue: EventQueue,
        turns: Turns,
        new_reply: Callable[[StartReply, Emit], ReplyWork],
        on_closed: Callable[[TurnBasedSession], None],
    ) -> None:
        self._queue = queue
        self._turns = turns
        self._new_reply = new_reply
        self._on_closed = on_closed
        self._replies: dict[str, ReplyWork] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def send(self, command: EngineCommand) -> None:
        """See `EngineSession.send`."""
        if self._closed:
            return
        match command:
            case Transcribe():
                self._turns.start(command)
            case StartReply():
                self._start(command)
            case ConfirmReply():
                if reply := self._replies.get(command.response_id):
                    reply.confirm()
            case CancelReply():
                self._cancel(command.response_id)
            case Begin() | HearAudio():
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
        await asyncio.gather(self._turns.close(), *tasks, return_exceptions=True)
        self._on_closed(self)

    def _start(self, command: StartReply) -> None:
        response_id = command.response_id
        if response_id in self._replies:
            return
        if len(self._replies) >= MAX_REPLIES:
            message = "too many replies are being made in this session"
            self._queue.put(ReplyFailed(response_id=response_id, code="engine_overloaded", message=message))
            return

        async def emit(event: EngineEvent) -> None:
            await self._queue.wait_for_room()
            if self._replies.get(response_id) is reply:
                self._queue.put(event)

        reply = self._replies[response_id] = self._new_reply(command, emit)
        self._tasks[response_id] = asyncio.create_task(self._run(response_id, reply))

    async def _run(self, response_id: str, reply: ReplyWork) -> None:
        failure: EngineError | None = None
        try:
            await reply.run()
        except EngineError as error:
            failure = error
        except Exception as error:  # one reply's defect must not end the conversation
            # An exception's message may hold words that were said: only its type and place are logged.
            place = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s while making a reply\n%s", type(error).__name__, place)
            failure = EngineError("the reply could not be made")
        if self._replies.get(response_id) is not reply:
            return
        if failure is not None:
            self._queue.put(ReplyFailed(response_id=response_id, code=failure.code, message=failure.message))
        del self._replies[response_id], self._tasks[response_id]

    def _cancel(self, response_id: str) -> None:
        if self._replies.pop(response_id, None) is not None:
            self._tasks.pop(response_id).cancel()
        # What the reply has left unread goes too, even where it has ended.
        self._queue.take_back(lambda event: isinstance(event, _OF_A_REPLY) and event.response_id == response_id)


class TurnBasedEngine(ABC):
    """See `streaming.engine.Engine`: at most `max_sessions` conversations at once."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: set[TurnBasedSession] = set()
        self._closing = False

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """See `Engine.info`."""

    @abstractmethod
    async def start(self) -> None:
        """See `Engine.start`."""

    @abstractmethod
    def _new_session(
        self, session_id: str, queue: EventQueue, on_closed: Callable[[TurnBasedSession], None]
    ) -> TurnBasedSession:
        """A conversation whose events go to `queue`."""

    @abstractmethod
    async def _stop(self) -> None:
        """Release the models; no session is open any more."""

    async def open(self, session_id: str) -> TurnBasedSession:
        """See `Engine.open`."""
        if self._closing or len(self._sessions) >= self._max_sessions:
            raise EngineBusyError("all of the engine's conversations are taken")
        session = self._new_session(session_id, EventQueue(MAX_EVENTS), self._sessions.discard)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closing = True
        sessions = list(self._sessions)
        for session in sessions:
            session.lose("the engine is closing")
        await asyncio.gather(*(session.close() for session in sessions))
        await self._stop()
