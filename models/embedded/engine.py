"""The embedded engine: several conversations that share ears, a chat model and a voice."""

from __future__ import annotations

from collections.abc import Callable

from models.embedded.parts import ChatModel, Ears, Voice
from models.embedded.reply import Reply, ReplyParts
from models.embedded.scheduler import Scheduler
from models.embedded.transcripts import Transcripts
from models.event_queue import EventQueue
from models.tasks import gather_all
from models.turn_based import MAX_REPLIES, TurnBasedEngine, TurnBasedSession
from streaming.engine import DETECTOR_RATE, EngineInfo

MODEL = "muse-embedded"

JOBS_PER_SESSION = 2 * MAX_REPLIES + 1
"""What a conversation may ask of the scheduler at once: of each reply its words and its voice, and a turn's words."""


class EmbeddedEngine(TurnBasedEngine):
    """The cascade. `clock` is monotonic ns; `scheduler` is closed with the engine."""

    def __init__(
        self,
        *,
        ears: Ears,
        chat: ChatModel,
        voice: Voice,
        clock: Callable[[], int],
        max_sessions: int,
        scheduler: Scheduler | None = None,
    ) -> None:
        super().__init__(max_sessions)
        self._ears = ears
        self._chat = chat
        self._voice = voice
        self._clock = clock
        self._scheduler = scheduler

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
        try:
            await gather_all(self._ears.start(), self._chat.start(), self._voice.start())
        except BaseException:
            # CTranslate2 aborts a process that exits with a model loaded.
            await self._stop()
            raise

    def _new_session(
        self, session_id: str, queue: EventQueue, on_closed: Callable[[TurnBasedSession], None]
    ) -> TurnBasedSession:
        turns = Transcripts(session_id, self._ears, put=queue.put, clock=self._clock)
        parts = ReplyParts(chat=self._chat, voice=self._voice, hear=turns.hear, clock=self._clock)
        return TurnBasedSession(
            queue=queue,
            turns=turns,
            new_reply=lambda command, emit: Reply(session_id, command, parts, emit),
            on_closed=on_closed,
        )

    async def _stop(self) -> None:
        if self._scheduler is not None:
            await self._scheduler.close()
        for part in (self._ears, self._chat, self._voice):
            await part.close()
