"""What a session says to its client, in the vocabulary of `streaming.client_events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from streaming.config import AudioOutput, Modality, SessionConfig
from streaming.items import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCreated:
    """The first event of every session."""

    session: SessionConfig
    event_id: str = ""
    type: Literal["session.created"] = "session.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdated:
    """The settings now in force."""

    session: SessionConfig
    event_id: str = ""
    type: Literal["session.updated"] = "session.updated"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The user began to speak; the turn will become the item `item_id`. Milliseconds count all audio of the session."""

    audio_start_ms: int
    item_id: str
    event_id: str = ""
    type: Literal["input_audio_buffer.speech_started"] = "input_audio_buffer.speech_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStopped:
    """The user's turn is over."""

    audio_end_ms: int
    item_id: str
    event_id: str = ""
    type: Literal["input_audio_buffer.speech_stopped"] = "input_audio_buffer.speech_stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCommitted:
    """The buffered audio became the item `item_id`."""

    item_id: str
    previous_item_id: str | None
    event_id: str = ""
    type: Literal["input_audio_buffer.committed"] = "input_audio_buffer.committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCleared:
    """The buffer is empty."""

    event_id: str = ""
    type: Literal["input_audio_buffer.cleared"] = "input_audio_buffer.cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimeout:
    """Nobody spoke for `idle_timeout_ms` after the last reply."""

    audio_start_ms: int
    audio_end_ms: int
    item_id: str
    event_id: str = ""
    type: Literal["input_audio_buffer.timeout_triggered"] = "input_audio_buffer.timeout_triggered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAdded:
    """An item joined the conversation; a reply's content is still to come."""

    item: Item
    previous_item_id: str | None
    event_id: str = ""
    type: Literal["conversation.item.added"] = "conversation.item.added"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDone:
    """An item is final."""

    item: Item
    previous_item_id: str | None
    event_id: str = ""
    type: Literal["conversation.item.done"] = "conversation.item.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRetrieved:
    """The answer to `RetrieveItem`."""

    item: Item
    event_id: str = ""
    type: Literal["conversation.item.retrieved"] = "conversation.item.retrieved"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTruncated:
    """The item now ends at `audio_end_ms`."""

    item_id: str
    content_index: int
    audio_end_ms: int
    event_id: str = ""
    type: Literal["conversation.item.truncated"] = "conversation.item.truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDeleted:
    """The item is gone."""

    item_id: str
    event_id: str = ""
    type: Literal["conversation.item.deleted"] = "conversation.item.deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationUsage:
    """Transcription is accounted by seconds of audio."""

    seconds: float
    type: Literal["duration"] = "duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """What went wrong; `event_id` names the client event that caused it."""

    type: str
    message: str
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionDelta:
    """More of the user's words."""

    item_id: str
    content_index: int
    delta: str
    event_id: str = ""
    type: Literal["conversation.item.input_audio_transcription.delta"] = (
        "conversation.item.input_audio_transcription.delta"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionCompleted:
    """The user's words."""

    item_id: str
    content_index: int
    transcript: str
    usage: DurationUsage
    event_id: str = ""
    type: Literal["conversation.item.input_audio_transcription.completed"] = (
        "conversation.item.input_audio_transcription.completed"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionFailed:
    """The user's words could not be found out."""

    item_id: str
    content_index: int
    error: ErrorDetail
    event_id: str = ""
    type: Literal["conversation.item.input_audio_transcription.failed"] = (
        "conversation.item.input_audio_transcription.failed"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTokenDetails:
    """Tokens read, by kind. Audio is counted at 12.5 tokens a second, Mimi's frame rate."""

    text_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTokenDetails:
    """Tokens written, by kind."""

    text_tokens: int = 0
    audio_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one response used."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: InputTokenDetails
    output_token_details: OutputTokenDetails


ResponseStatus = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDetails:
    """Why a response ended as it did."""

    type: Literal["completed", "cancelled", "failed", "incomplete"]
    reason: Literal["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"] | None = None
    error: ErrorDetail | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAudioConfig:
    """The audio settings a response was made with."""

    output: AudioOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response. On `response.done`, `metadata["muse.latency"]` holds the turn's latency (see docs/latency.md)."""

    id: str
    status: ResponseStatus
    output: tuple[Item, ...] = ()
    object: Literal["realtime.response"] = "realtime.response"
    conversation_id: str | None = None
    status_details: StatusDetails | None = None
    output_modalities: tuple[Modality, ...] = ("audio",)
    max_output_tokens: int | Literal["inf"] = "inf"
    audio: ResponseAudioConfig | None = None
    usage: Usage | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCreated:
    """A response begins."""

    response: Response
    event_id: str = ""
    type: Literal["response.created"] = "response.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseDone:
    """A response ended; exactly one for each `ResponseCreated`."""

    response: Response
    event_id: str = ""
    type: Literal["response.done"] = "response.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItemAdded:
    """A response began an item."""

    response_id: str
    output_index: int
    item: Item
    event_id: str = ""
    type: Literal["response.output_item.added"] = "response.output_item.added"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItemDone:
    """A response finished an item."""

    response_id: str
    output_index: int
    item: Item
    event_id: str = ""
    type: Literal["response.output_item.done"] = "response.output_item.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A part of a response, as the content_part events show it."""

    text: str = ""
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPart:
    """A spoken part of a response; its audio travels in the deltas."""

    transcript: str = ""
    type: Literal["audio"] = "audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPartAdded:
    """A response began a part."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    part: TextPart | AudioPart
    event_id: str = ""
    type: Literal["response.content_part.added"] = "response.content_part.added"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPartDone:
    """A response finished a part."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    part: TextPart | AudioPart
    event_id: str = ""
    type: Literal["response.content_part.done"] = "response.content_part.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More of a written reply."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: str
    event_id: str = ""
    type: Literal["response.output_text.delta"] = "response.output_text.delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDone:
    """The whole of a written reply."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    text: str
    event_id: str = ""
    type: Literal["response.output_text.done"] = "response.output_text.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioDelta:
    """The next frame of a spoken reply, in its output format.

    It is sent when the client would otherwise hold less than `SessionOptions.lead` (400 ms by default) of the reply.
    """

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: bytes
    event_id: str = ""
    type: Literal["response.output_audio.delta"] = "response.output_audio.delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioDone:
    """The last frame has been sent."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    event_id: str = ""
    type: Literal["response.output_audio.done"] = "response.output_audio.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTranscriptDelta:
    """More of the words of a spoken reply."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: str
    event_id: str = ""
    type: Literal["response.output_audio_transcript.delta"] = "response.output_audio_transcript.delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTranscriptDone:
    """The words of a spoken reply; after an interruption, those that were heard."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    transcript: str
    event_id: str = ""
    type: Literal["response.output_audio_transcript.done"] = "response.output_audio_transcript.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCallDone:
    """The model asks the client to call a function."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    name: str
    arguments: str
    event_id: str = ""
    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAudioCleared:
    """The answer to `ClearOutputAudio`: nothing more of this response will be heard."""

    response_id: str
    event_id: str = ""
    type: Literal["output_audio_buffer.cleared"] = "output_audio_buffer.cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeInProgress:
    """Muse's own event, sent only to a session opened with `extensions=muse`: the user speaks over the reply.

    `onset`: speech heard, play the reply softly. `dismissed`: a cough or an "mm-hmm", play on. `decided`: an
    interruption, stop; the server sends no more of this response.
    """

    phase: Literal["onset", "dismissed", "decided"]
    response_id: str
    event_id: str = ""
    type: Literal["muse.barge_in"] = "muse.barge_in"


NoticeCode = Literal["session_expiring", "session_expired", "session_idle", "server_restarting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Muse's own event, sent only to a session opened with `extensions=muse`: something that is no error.

    `session_expiring`, `server_restarting`: the session will be closed. `session_expired`, `session_idle`: it is now.
    """

    code: NoticeCode
    message: str
    event_id: str = ""
    type: Literal["muse.notice"] = "muse.notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """Something went wrong; the session goes on."""

    error: ErrorDetail
    event_id: str = ""
    type: Literal["error"] = "error"


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | AudioCommitted
    | AudioCleared
    | IdleTimeout
    | ItemAdded
    | ItemDone
    | ItemRetrieved
    | ItemTruncated
    | ItemDeleted
    | TranscriptionDelta
    | TranscriptionCompleted
    | TranscriptionFailed
    | ResponseCreated
    | ResponseDone
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | TextDelta
    | TextDone
    | AudioDelta
    | AudioDone
    | AudioTranscriptDelta
    | AudioTranscriptDone
    | FunctionCallDone
    | OutputAudioCleared
    | BargeInProgress
    | Notice
    | ErrorEvent
)
