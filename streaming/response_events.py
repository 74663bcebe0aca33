"""The events of one response, in the order that OpenAI Realtime (GA) gives them, and its items in the conversation.

response.created
  response.output_item.added, conversation.item.added, response.content_part.added
    deltas
  response.output_audio.done, ..._transcript.done (or output_text.done), response.content_part.done,
  response.output_item.done, conversation.item.done
response.done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from streaming.config import AudioOutput, Modality
from streaming.conversation import Conversation
from streaming.core import Outbox
from streaming.items import FunctionCall, Item, ItemStatus, Message, OutputAudio, OutputText
from streaming.server_events import (
    AudioDelta,
    AudioDone,
    AudioPart,
    AudioTranscriptDelta,
    AudioTranscriptDone,
    ContentPartAdded,
    ContentPartDone,
    FunctionCallDone,
    ItemAdded,
    ItemDone,
    OutputItemAdded,
    OutputItemDone,
    Response,
    ResponseAudioConfig,
    ResponseCreated,
    ResponseDone,
    StatusDetails,
    TextDelta,
    TextDone,
    TextPart,
    Usage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePlan:
    """What was settled about a response before it began. `item_id` is its message's."""

    response_id: str
    item_id: str
    modalities: tuple[Modality, ...]
    audio: AudioOutput
    max_tokens: int | Literal["inf"]
    metadata: Mapping[str, str] | None = None

    @property
    def speaks(self) -> bool:
        """Whether the reply is speech."""
        return "audio" in self.modalities


class ResponseEvents:
    """Writes one response to the client. `conversation` is None for a response beside the conversation."""

    def __init__(self, plan: ResponsePlan, out: Outbox, conversation: Conversation | None) -> None:
        self._plan = plan
        self._out = out
        self._conversation = conversation
        self._message: Message | None = None
        self._message_index = 0
        self._items: list[Item] = []

    def created(self) -> None:
        """The response begins."""
        self._out.send(ResponseCreated(response=self._response("in_progress")))

    def text(self, delta: str) -> None:
        """More words: of the reply, or of what is spoken."""
        self._open()
        kind = AudioTranscriptDelta if self._plan.speaks else TextDelta
        self._out.send(
            kind(
                response_id=self._plan.response_id,
                item_id=self._plan.item_id,
                output_index=self._message_index,
                content_index=0,
                delta=delta,
            )
        )

    def audio(self, data: bytes) -> None:
        """The next frame."""
        self._open()
        self._out.send(
            AudioDelta(
                response_id=self._plan.response_id,
                item_id=self._plan.item_id,
                output_index=self._message_index,
                content_index=0,
                delta=data,
            )
        )

    def tool_call(self, call: FunctionCall) -> None:
        """The model asks for a function: an item of its own, complete at once."""
        index = len(self._items)
        self._items.append(call)
        self._add(replace(call, status="in_progress"), index)
        self._out.send(
            FunctionCallDone(
                response_id=self._plan.response_id,
                item_id=call.id or "",
                output_index=index,
                call_id=call.call_id or "",
                name=call.name,
                arguments=call.arguments,
            )
        )
        self._complete(call, index)

    def done(
        self,
        details: StatusDetails,
        *,
        words: str,
        usage: Usage,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """The response ends; `words` are the reply's, or those of them that were heard."""
        if self._message is not None:
            self._close_message(words, "completed" if details.type == "completed" else "incomplete")
        response = self._response(details.type)
        self._out.send(ResponseDone(response=replace(response, status_details=details, usage=usage, metadata=metadata)))

    def _open(self) -> None:
        if self._message is not None:
            return
        self._message = Message(id=self._plan.item_id, role="assistant", content=(), status="in_progress")
        self._message_index = len(self._items)
        self._items.append(self._message)
        self._add(self._message, self._message_index)
        self._out.send(
            ContentPartAdded(
                response_id=self._plan.response_id,
                item_id=self._plan.item_id,
                output_index=self._message_index,
                content_index=0,
                part=AudioPart() if self._plan.speaks else TextPart(),
            )
        )

    def _close_message(self, words: str, status: ItemStatus) -> None:
        response_id, item_id, index = self._plan.response_id, self._plan.item_id, self._message_index
        part: AudioPart | TextPart
        content: OutputAudio | OutputText
        if self._plan.speaks:
            self._out.send(AudioDone(response_id=response_id, item_id=item_id, output_index=index, content_index=0))
            self._out.send(
                AudioTranscriptDone(
                    response_id=response_id, item_id=item_id, output_index=index, content_index=0, transcript=words
                )
            )
            part, content = AudioPart(transcript=words), OutputAudio(transcript=words)
        else:
            self._out.send(
                TextDone(response_id=response_id, item_id=item_id, output_index=index, content_index=0, text=words)
            )
            part, content = TextPart(text=words), OutputText(text=words)
        self._out.send(
            ContentPartDone(response_id=response_id, item_id=item_id, output_index=index, content_index=0, part=part)
        )
        message = Message(id=item_id, role="assistant", content=(content,), status=status)
        self._items[index] = message
        self._complete(message, index)

    def _add(self, item: Item, index: int) -> None:
        self._out.send(OutputItemAdded(response_id=self._plan.response_id, output_index=index, item=item))
        if self._conversation is not None:
            previous = self._conversation.append(item)
            self._out.send(ItemAdded(item=item, previous_item_id=previous))

    def _complete(self, item: Item, index: int) -> None:
        self._out.send(OutputItemDone(response_id=self._plan.response_id, output_index=index, item=item))
        if self._conversation is not None and item.id is not None and item.id in self._conversation:
            previous = self._conversation.before(item.id)
            self._conversation.put(item)  # which may take the place of the oldest, and that be this very item
            self._out.send(ItemDone(item=item, previous_item_id=previous))

    def _response(self, status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]) -> Response:
        return Response(
            id=self._plan.response_id,
            status=status,
            output=tuple(self._items),
            output_modalities=self._plan.modalities,
            max_output_tokens=self._plan.max_tokens,
            audio=ResponseAudioConfig(output=self._plan.audio) if self._plan.speaks else None,
            metadata=self._plan.metadata,
        )
