"""What a client may set about its session: the OpenAI Realtime (GA) session object, typed.

Field names and defaults are those of `openai.types.realtime`; where Muse's default differs, the class says so.
`IGNORED_FIELDS` are GA fields that clients may send and Muse has no use for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from streaming.schema import Within

Modality = Literal["text", "audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmFormat:
    """Little-endian signed 16-bit mono at 24 kHz."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmuFormat:
    """G.711 mu-law, 8 kHz mono."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmaFormat:
    """G.711 A-law, 8 kHz mono."""

    type: Literal["audio/pcma"] = "audio/pcma"


WireFormat = PcmFormat | PcmuFormat | PcmaFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerVad:
    """A turn ends after a fixed silence."""

    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Within(0, 1)] = 0.5
    prefix_padding_ms: Annotated[int, Within(0, 10_000)] = 300
    silence_duration_ms: Annotated[int, Within(0, 10_000)] = 500
    idle_timeout_ms: Annotated[int, Within(1, 3_600_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticVad:
    """A turn ends when a model of the speech says that it is complete; `eagerness` bounds the wait."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVad | SemanticVad


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription:
    """Ask for transcripts of the user's speech. Any model name is accepted; the engine uses its own."""

    IGNORED_FIELDS: ClassVar = frozenset({"delay", "keywords", "languages"})

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseReduction:
    """Accepted for compatibility; Muse's detectors need none."""

    IGNORED_FIELDS: ClassVar = frozenset({"strength"})

    type: Literal["near_field", "far_field"] = "near_field"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInput:
    """How the user's audio arrives and how its turns are found. `turn_detection=None` is manual commit."""

    format: WireFormat = field(default_factory=PcmFormat)
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = field(default_factory=SemanticVad)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioOutput:
    """How the reply's audio leaves. `voice` is fixed once a reply has been spoken, or a duplex engine listens."""

    format: WireFormat = field(default_factory=PcmFormat)
    speed: Annotated[float, Within(0.25, 1.5)] = 1.0
    voice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConfig:
    """Both directions of the session's audio."""

    input: AudioInput = field(default_factory=AudioInput)
    output: AudioOutput = field(default_factory=AudioOutput)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that the model may ask the client to call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    type: Literal["function"] = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTool:
    """The choice of one function that the model must call."""

    name: str
    type: Literal["function"] = "function"


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """One session's settings, as `session.created` and `session.updated` show them.

    `metadata` is the server's word on the session, in `session.created` only; what a client sends back of it is
    ignored.
    """

    IGNORED_FIELDS: ClassVar = frozenset(
        {"expires_at", "include", "parallel_tool_calls", "prompt", "reasoning", "tracing", "truncation"}
    )

    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    id: str = ""
    model: str = "auto"
    instructions: str = ""
    output_modalities: tuple[Modality, ...] = ("audio",)
    max_output_tokens: Annotated[int, Within(1, 1_000_000)] | Literal["inf"] = "inf"
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"
    audio: AudioConfig = field(default_factory=AudioConfig)
    metadata: Mapping[str, str] | None = None
