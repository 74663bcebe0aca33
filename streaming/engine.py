"""The seams to the models: what a session asks of an engine and of the detectors, and what they answer.

A session never calls a model. It puts out *commands*; a driver carries them to an `EngineSession` or a detector, and
brings the *events* back as session inputs. Every event names the response, item or position that it is about, so
that one which comes late is dropped by value.

Two kinds of engine, one protocol. A turn-based engine answers `StartReply`. A duplex engine is fed every frame of the
user's audio (`HearAudio`) and speaks when it will.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from streaming.config import FunctionTool, ToolChoice

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (n,), float32 in [-1, 1]."""

DETECTOR_RATE = 16_000
"""Sample rate, in Hz, of the audio that detectors are given."""

VOICE_FRAME = 512
"""Samples in one frame for a voice activity detector: 32 ms at DETECTOR_RATE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine is and can do."""

    model: str
    input_rate: int
    output_rate: int
    duplex: bool = False
    transcribes: bool = True  # whether it finds the words of the user's turns
    instructed: bool = True  # whether a reply heeds the instructions that it is asked for with
    voices: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    tools: bool = False
    speaks: bool = True


# --- commands to an engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation, as a reply's context.

    A spoken user turn whose words are not known yet has `text=None` and the `item_id` of a `Transcribe` that was sent
    before; the engine waits for that transcript. A turn that proves to have no words is left out where the user's
    message before it has had no answer yet.
    """

    role: Literal["user", "assistant", "system", "tool"]
    text: str | None
    item_id: str | None = None
    tool_call_id: str | None = None
    tool_call: tuple[str, str] | None = None  # (name, arguments) where the assistant called a function


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcribe:
    """Find the words of `audio` (at `EngineInfo.input_rate`). A later revision of an item replaces an earlier one."""

    item_id: str
    revision: int
    audio: Samples
    language: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReply:
    """Write, and where `speaks` is set speak, the answer to `messages`.

    A provisional reply is a guess that the turn is over: the engine prepares the words and the first of the audio, and
    goes no further until `ConfirmReply`.
    """

    response_id: str
    instructions: str
    messages: tuple[ChatMessage, ...]
    speaks: bool
    voice: str
    speed: float = 1.0
    max_tokens: int | None = None
    provisional: bool = False
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmReply:
    """The turn is over: the provisional reply is wanted."""

    response_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReply:
    """Stop within a frame; whatever still comes of this response is dropped."""

    response_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """What a duplex engine is told before it hears anything: once, before the first `HearAudio`."""

    instructions: str
    voice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HearAudio:
    """The next of the user's audio for a duplex engine, at `EngineInfo.input_rate`, contiguous."""

    audio: Samples


EngineCommand = Transcribe | StartReply | ConfirmReply | CancelReply | Begin | HearAudio

# --- events from an engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The words of an item's audio. `final` is false while more are coming; `text` is always the whole so far."""

    item_id: str
    revision: int
    text: str
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptFailed:
    """An item's words could not be found; `message` is safe to show."""

    item_id: str
    revision: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyText:
    """More words of the reply, exactly as they join on. For a spoken reply they precede their audio."""

    response_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyAudio:
    """More audio of the reply, at `EngineInfo.output_rate`, contiguous.

    `text_end` is how many characters of the reply's text have been spoken when this audio ends; the session uses it
    to know which words were heard.
    """

    response_id: str
    audio: Samples
    text_end: int


Stage = Literal["queue", "transcribe", "first_token", "first_clause", "first_audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStage:
    """A stage of making the reply ended at `at` (monotonic ns): one mark on the turn's timeline."""

    response_id: str
    stage: Stage
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyToolCall:
    """The model wants the client to call a function."""

    response_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEnded:
    """All of the reply has been sent. Token counts are the chat model's own."""

    response_id: str
    reason: Literal["completed", "max_tokens"]
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFailed:
    """The reply cannot be finished; `message` is safe to show."""

    response_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTimes:
    """What one frame's way through a duplex engine took, in ns: waiting for the batch, then the parts of its step."""

    queue: int = 0
    encode: int = 0
    model: int = 0
    decode: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """The next of what a duplex engine says, at `EngineInfo.output_rate`: as long as what it heard, silence included.

    `text` are the words that begin in it, exactly as they join on; `heard` is how many samples of the user's audio the
    engine had been given when it said this.
    """

    audio: Samples
    text: str = ""
    heard: int = 0
    times: FrameTimes = FrameTimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLost:
    """The engine is gone; nothing more will come."""

    message: str


EngineEvent = (
    Transcript
    | TranscriptFailed
    | ReplyText
    | ReplyAudio
    | ReplyStage
    | ReplyToolCall
    | ReplyEnded
    | ReplyFailed
    | Speech
    | EngineLost
)

# --- detectors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectVoice:
    """Is there speech in this frame? `end` is the position, in samples at DETECTOR_RATE, just after the frame."""

    end: int
    audio: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictTurnEnd:
    """Has the speaker finished? `audio` is the turn so far, at most its last 8 s, at DETECTOR_RATE, up to `end`."""

    end: int
    audio: Samples


DetectorCommand = DetectVoice | PredictTurnEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceProbability:
    """The probability of speech in the frame that ended at `end`; frames are answered in order."""

    end: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEndProbability:
    """The probability that the turn was complete at `end`."""

    end: int
    probability: float


DetectorEvent = VoiceProbability | TurnEndProbability

# --- protocols, implemented in `models` ------------------------------------------------------------------------------


class EngineSession(Protocol):
    """One conversation's share of an engine.

    Its events have one queue, so a reply that is made far ahead of its playout delays the transcripts behind it. An
    engine that is faster than speech keeps a few seconds ahead.
    """

    def send(self, command: EngineCommand) -> None:
        """Take a command; never blocks. Failures come back as events."""

    def events(self) -> AsyncIterator[EngineEvent]:
        """The session's events, in order, until it is closed. A reader that pauses slows the engine down."""

    async def close(self) -> None:
        """Stop all work of this session and release its slot. Safe to call twice."""


class Engine(Protocol):
    """A model, or a chain of them, that holds several conversations."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is; fixed once `start` has returned."""

    async def start(self) -> None:
        """Load and warm up. Raises EngineError naming what is missing or wrong."""

    async def open(self, session_id: str) -> EngineSession:
        """Reserve a slot. Raises EngineBusyError when all are taken."""

    async def close(self) -> None:
        """Release everything; open sessions get EngineLost."""


class VoiceStream(Protocol):
    """One session's voice activity detection; holds the model's state between frames."""

    async def probability(self, frame: Samples) -> float:
        """Probability of speech in the next frame of VOICE_FRAME samples at DETECTOR_RATE."""


class VoiceActivityDetector(Protocol):
    """A voice activity model, batched across sessions."""

    def open(self) -> VoiceStream:
        """A fresh stream."""


class TurnDetector(Protocol):
    """A model of whether the speaker has finished."""

    async def probability(self, audio: Samples) -> float:
        """Probability that the turn in `audio` (DETECTOR_RATE, at most 8 s) is complete."""

    async def close(self) -> None:
        """Release the model, when no conversation is left."""
