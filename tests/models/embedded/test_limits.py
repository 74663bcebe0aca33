"""What a session may ask for at once, the embedded engine takes on."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable

import numpy as np

from models.embedded.engine import JOBS_PER_SESSION, EmbeddedEngine
from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, Speech, TextDelta
from models.embedded.scheduler import Deadline, Job, Scheduler
from streaming.engine import (
    ChatMessage,
    EngineEvent,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    StartReply,
    Transcribe,
    TranscriptFailed,
)
from streaming.responses import MOST_BESIDE
from tests.models.embedded.fakes import FakeChat, FakeEars, FakeVoice


class Held:
    """Parts whose jobs all run at once, and end when `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.scheduler = Scheduler(workers=JOBS_PER_SESSION, max_sessions=1, jobs_per_session=JOBS_PER_SESSION)

    def wait(self) -> None:
        assert self.go.wait(60)


class HeldEars(FakeEars):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    async def transcribe(
        self, session_id: str, command: Transcribe, *, needed_at: Deadline, on_begun: Callable[[], None]
    ) -> str:
        def listen(_: Job) -> str:
            self.held.wait()
            return "words"

        return await self.held.scheduler.run(session_id, listen, needed_at=needed_at)


class HeldChat(FakeChat):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:
        def write(_: Job, emit: Callable[[ChatEvent], None]) -> None:
            emit(ChatBegun())
            emit(TextDelta("This is a sentence of some words. This is "))
            self.held.wait()
            emit(ChatEnded(reason="completed", input_tokens=1, output_tokens=1))

        return self.held.scheduler.stream(request.session_id, write, needed_at=needed_at, room=4)


class HeldVoice(FakeVoice):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    def speak(self, session_id: str, text: str, *, speed: float, needed_at: Deadline) -> AsyncGenerator[Speech, None]:
        def synthesise(_: Job, emit: Callable[[Speech], None]) -> None:
            emit(Speech(np.zeros(240, np.float32), 0.5))
            self.held.wait()
            emit(Speech(np.zeros(240, np.float32), 1))

        return self.held.scheduler.stream(session_id, synthesise, needed_at=needed_at)


async def test_all_that_a_session_may_ask_for_at_once_is_taken_on() -> None:
    held = Held()
    engine = EmbeddedEngine(
        ears=HeldEars(held),
        chat=HeldChat(held),
        voice=HeldVoice(held),
        clock=lambda: 0,
        max_sessions=1,
        scheduler=held.scheduler,
    )
    session = await engine.open("s")
    replies = MOST_BESIDE + 2
    for number in range(replies):
        session.send(
            StartReply(
                response_id=f"r{number}",
                instructions="",
                messages=(ChatMessage(role="user", text="hello"),),
                speaks=True,
                voice="",
            )
        )
    for revision in range(3):
        session.send(Transcribe(item_id="i", revision=revision, audio=np.zeros(16_000, np.float32)))
    speaking: set[str] = set()
    ended: list[str] = []
    failed: list[EngineEvent] = []
    async with asyncio.timeout(60):
        async for event in session.events():
            if isinstance(event, ReplyFailed | TranscriptFailed):
                failed.append(event)
            elif isinstance(event, ReplyAudio):
                speaking.add(event.response_id)
            elif isinstance(event, ReplyEnded):
                ended.append(event.response_id)
            if len(speaking) + len(failed) >= replies:
                held.go.set()
            if len(ended) + len(failed) >= replies:
                break
    await engine.close()
    assert failed == []
    assert len(speaking) == len(ended) == replies
