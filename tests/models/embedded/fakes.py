"""The cascade's parts, with delays in place of models."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import numpy as np

from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, Speech, TextDelta, ToolCall
from streaming.engine import Transcribe
from streaming.errors import EngineError

Deadline = Callable[[], int]


class FakeEars:
    def __init__(self, words: str = "what is new", delay: float = 0.1) -> None:
        self.words = words
        self.delay = delay
        self.heard: list[tuple[str, int]] = []
        self.fail = False

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def transcribe(
        self, session_id: str, command: Transcribe, *, needed_at: Deadline, on_begun: Callable[[], None]
    ) -> str:
        on_begun()
        await asyncio.sleep(self.delay)
        if self.fail:
            raise EngineError("cannot hear")
        self.heard.append((command.item_id, command.revision))
        return self.words


class FakeChat:
    """Says `text`, word by word; what comes after a cancel shows in `closed`."""

    tools = True

    def __init__(self, text: str = "It is new. And so much more, as you know.", delay: float = 0.01) -> None:
        self.text = text
        self.delay = delay
        self.requests: list[ChatRequest] = []
        self.words_written = 0
        self.closed = 0
        self.released = False
        self.fail_after: int | None = None
        self.calls: list[ToolCall] = []

    async def start(self) -> None: ...

    async def close(self) -> None:
        self.released = True

    async def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:
        self.requests.append(request)
        try:
            yield ChatBegun()
            for word in self.text.split():
                await asyncio.sleep(self.delay)
                if self.fail_after is not None and self.words_written >= self.fail_after:
                    raise EngineError("cannot think", code="chat_failed")
                self.words_written += 1
                yield TextDelta(word if self.words_written == 1 else f" {word}")
            for call in self.calls:
                yield call
            yield ChatEnded(reason="completed", input_tokens=7, output_tokens=self.words_written, cached_tokens=3)
        finally:
            self.closed += 1


class FakeVoice:
    """Speaks each word for 0.3 s, in chunks of one word; making a chunk takes `delay`."""

    name = "fake"
    rate = 24_000
    word = 7_200

    def __init__(self, delay: float = 0.03) -> None:
        self.delay = delay
        self.spoken: list[str] = []
        self.made = 0
        self.open = 0
        self.speeds: list[float] = []
        self.deadlines: list[int] = []
        self.defect = False
        self.missing = False

    async def start(self) -> None:
        if self.missing:
            raise EngineError("no voice")

    async def close(self) -> None: ...

    async def speak(
        self, session_id: str, text: str, *, speed: float, needed_at: Deadline
    ) -> AsyncGenerator[Speech, None]:
        if self.defect:
            raise ZeroDivisionError("secret words".upper())
        self.spoken.append(text)
        self.speeds.append(speed)
        words = len(text.split())
        self.open += 1
        try:
            for number in range(1, words + 1):
                self.deadlines.append(needed_at())
                await asyncio.sleep(self.delay)
                self.made += 1
                yield Speech(np.full(self.word, 0.1, np.float32), number / words)
        finally:
            self.open -= 1
