"""What a client says to a session.

The vocabulary is OpenAI Realtime's (GA): `type` is the event's wire name and the fields are the wire's, typed
(audio as bytes, items and configs as dataclasses). `streaming.wire.openai_realtime` turns these into JSON and back;
other wires map onto the same events. `event_id` is the client's own and comes back in the error that it causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from streaming.config import FunctionTool, Modality, ToolChoice, WireFormat
from streaming.items import Item, ItemReference
from streaming.schema import Within


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSession:
    """Change settings. `session` is a merge patch of the session object: an absent field stays as it is."""

    session: Mapping[str, object]
    event_id: str | None = None
    type: Literal["session.update"] = "session.update"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendAudio:
    """More of the user's audio, in the session's input format; chunks may be cut anywhere between samples."""

    audio: bytes
    event_id: str | None = None
    type: Literal["input_audio_buffer.append"] = "input_audio_buffer.append"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitAudio:
    """The buffered audio is the user's turn."""

    event_id: str | None = None
    type: Literal["input_audio_buffer.commit"] = "input_audio_buffer.commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAudio:
    """Forget the buffered audio."""

    event_id: str | None = None
    type: Literal["input_audio_buffer.clear"] = "input_audio_buffer.clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateItem:
    """Add an item to the conversation: after `previous_item_id`, first for "root", last when absent."""

    item: Item
    previous_item_id: str | None = None
    event_id: str | None = None
    type: Literal["conversation.item.create"] = "conversation.item.create"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveItem:
    """Show an item as the server has it, audio included."""

    item_id: str
    event_id: str | None = None
    type: Literal["conversation.item.retrieve"] = "conversation.item.retrieve"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    """Remove an item from the conversation."""

    item_id: str
    event_id: str | None = None
    type: Literal["conversation.item.delete"] = "conversation.item.delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateItem:
    """The user heard only the first `audio_end_ms` of this reply; the rest, with its words, is forgotten."""

    item_id: str
    content_index: Annotated[int, Within(0, 2**31)]
    audio_end_ms: Annotated[int, Within(0, 2**53)]
    event_id: str | None = None
    type: Literal["conversation.item.truncate"] = "conversation.item.truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAudioOutput:
    """How one response sounds; what is absent comes from the session."""

    format: WireFormat | None = None
    voice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAudioParams:
    """The audio half of `ResponseParams`."""

    output: ResponseAudioOutput | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseParams:
    """Settings of one response; an absent one comes from the session.

    `conversation="none"` answers beside the conversation; `input` replaces its items for this response.
    """

    IGNORED_FIELDS: ClassVar = frozenset({"parallel_tool_calls", "prompt", "reasoning"})

    instructions: str | None = None
    output_modalities: tuple[Modality, ...] | None = None
    max_output_tokens: Annotated[int, Within(1, 1_000_000)] | Literal["inf"] | None = None
    conversation: Literal["auto", "none"] = "auto"
    input: tuple[Item | ItemReference, ...] | None = None
    metadata: Mapping[str, str] | None = None
    audio: ResponseAudioParams | None = None
    tools: tuple[FunctionTool, ...] | None = None
    tool_choice: ToolChoice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResponse:
    """Answer now."""

    response: ResponseParams | None = None
    event_id: str | None = None
    type: Literal["response.create"] = "response.create"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResponse:
    """Stop the named response, or the one that is running."""

    response_id: str | None = None
    event_id: str | None = None
    type: Literal["response.cancel"] = "response.cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutputAudio:
    """Stop speaking and drop what has not been heard (WebRTC and playback-acknowledging clients)."""

    event_id: str | None = None
    type: Literal["output_audio_buffer.clear"] = "output_audio_buffer.clear"


ClientEvent = (
    UpdateSession
    | AppendAudio
    | CommitAudio
    | ClearAudio
    | CreateItem
    | RetrieveItem
    | DeleteItem
    | TruncateItem
    | CreateResponse
    | CancelResponse
    | ClearOutputAudio
)
