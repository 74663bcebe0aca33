"""The embedded engine: several conversations that share one set of models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from models.embedded.cascade import CascadeOptions, CascadeSession
from models.embedded.parts import ChatModel, Ears, Voice
from models.embedded.scheduler import Scheduler
from models.embedded.tasks import gather_all
from streaming.engine import DETECTOR_RATE, EngineInfo
from streaming.errors import EngineBusyError

MODEL = "muse-embedded"


class EmbeddedEngine:
    """See `streaming.engine.Engine`. `clock` is monotonic ns; `scheduler` is closed with the engine."""

    def __init__(
        self,
        *,
        ears: Ears,
        chat: ChatModel,
        voice: Voice,
        clock: Callable[[], int],
        max_sessions: int,
        scheduler: Scheduler | None = None,
        options: CascadeOptions | None = None,
    ) -> None:
        self._ears = ears
        self._chat = chat
        self._voice = voice
        self._clock = clock
        self._max_sessions = max_sessions
        self._scheduler = scheduler
        self._options = options or CascadeOptions()
        self._sessions: set[CascadeSession] = set()
        self._closing = False

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(
            model=MODEL,
            input_rate=DETECTOR_RATE,
            output_rate=self._voice.rate,
            voices=(self._voice.name,),
            tools=self._chat.tools,
        )

    async def start(self) -> None:
        """See `Engine.start`."""
        await gather_all(self._ears.start(), self._chat.start(), self._voice.start())

    async def open(self, session_id: str) -> CascadeSession:
        """See `Engine.open`."""
        if self._closing or len(self._sessions) >= self._max_sessions:
            raise EngineBusyError("all of the engine's conversations are taken")
        session = CascadeSession(
            session_id,
            ears=self._ears,
            chat=self._chat,
            voice=self._voice,
            clock=self._clock,
            on_closed=self._sessions.discard,
            options=self._options,
        )
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closing = True
        sessions = list(self._sessions)
        for session in sessions:
            session.lose("the engine is closing")
        await asyncio.gather(*(session.close() for session in sessions))
        if self._scheduler is not None:
            await self._scheduler.close()
        for part in (self._ears, self._chat, self._voice):
            await part.close()
