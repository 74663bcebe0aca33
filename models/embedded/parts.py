"""What the cascade is made of: ears, a chat model and a voice. Each may be a model in this process or one far away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from models.embedded.scheduler import Deadline
from streaming.config import FunctionTool, ToolChoice
from streaming.engine import ChatMessage, Samples, Transcribe


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a reply is to be written from. No message's text is None but an assistant's that called a function."""

    session_id: str
    instructions: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int | None = None
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"


@dataclass(frozen=True, slots=True)
class ChatBegun:
    """The model has the request: waiting for its turn is over."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More words, exactly as they join on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The model calls a function; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEnded:
    """The last event of a reply."""

    reason: Literal["completed", "max_tokens"]
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


ChatEvent = ChatBegun | TextDelta | ToolCall | ChatEnded


@dataclass(frozen=True, slots=True)
class Speech:
    """A chunk of a clause's audio, and how much of the clause has been spoken when it ends, from 0 to 1."""

    audio: Samples
    done: float


class ChatModel(Protocol):
    """Writes replies."""

    @property
    def tools(self) -> bool:
        """Whether it can call functions."""

    async def start(self) -> None:
        """Load and warm up. Raises EngineError."""

    def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:
        """The reply: ChatBegun, words and calls, ChatEnded. Closing the iterator stops the model within a token.

        Raises EngineError with a message that is safe to show.
        """

    async def close(self) -> None:
        """Release everything."""


class Ears(Protocol):
    """Turns speech to text."""

    async def start(self) -> None:
        """Load and warm up. Raises EngineError."""

    async def transcribe(
        self, session_id: str, command: Transcribe, *, needed_at: Deadline, on_begun: Callable[[], None]
    ) -> str:
        """The words of `command.audio` (16 kHz), empty where there are none.

        `on_begun` is called, from any thread, when the model starts on it. Raises EngineError.
        """

    async def close(self) -> None:
        """Release everything."""


class Voice(Protocol):
    """Speaks text."""

    @property
    def name(self) -> str:
        """The voice's name, as a session may ask for it."""

    @property
    def rate(self) -> int:
        """Sample rate of the speech, in Hz."""

    async def start(self) -> None:
        """Load and warm up. Raises EngineError."""

    def speak(self, session_id: str, text: str, *, speed: float, needed_at: Deadline) -> AsyncGenerator[Speech, None]:
        """The speech of one clause in chunks, the first short. Closing the iterator stops it within a chunk.

        `speed` is 0.25 to 1.5, 1 the voice's own. Raises EngineError.
        """

    async def close(self) -> None:
        """Release everything."""
