"""The conversation: its items in order, what was said in them, and the audio of the recent ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from streaming.audio import AudioFormat, resample
from streaming.engine import ChatMessage
from streaming.errors import PeerError
from streaming.items import (
    ContentPart,
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputText,
    Item,
    Message,
    OutputAudio,
    OutputText,
)

AUDIO_BUDGET = 16 * 1024 * 1024
"""Bytes of audio kept for `retrieve`, over all items; the oldest go first."""

MOST_ITEMS = 2000
"""Items in one conversation. One more from the client is refused; one more from the session replaces the oldest."""

MOST_TEXT = 4 * 1024 * 1024
"""Characters of text in one conversation, bounded in the same way."""

_PART_WEIGHT = 64  # characters that a part counts for beside its text, so that empty ones are bounded too


class Conversation:
    """Items by id, in order. An item's audio is kept apart, and shown only when it is asked for."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._items: dict[str, Item] = {}
        self._audio: dict[str, tuple[AudioFormat, bytes]] = {}
        self._audio_bytes = 0
        self._text = 0

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def get(self, item_id: str, *, param: str = "item_id", code: str = "item_not_found") -> Item:
        """An item, without its audio. Raises PeerError `code` where there is none."""
        try:
            return self._items[item_id]
        except KeyError:
            raise PeerError(f"there is no item {item_id!r} in the conversation", code=code, param=param) from None

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Add a client's item after `after` ("root": first, None: last). Returns the id of the item before it.

        Raises PeerError when the id is taken, `after` is not there, or the conversation is full.
        """
        if item.id in self._items:
            raise PeerError(f"the id {item.id!r} is taken", code="item_id_taken", param="item.id")
        if len(self._items) >= MOST_ITEMS or self._text + _weight(item) > MOST_TEXT:
            raise PeerError(
                f"a conversation holds at most {MOST_ITEMS} items and {MOST_TEXT} characters; delete some items",
                code="conversation_full",
                param="item",
            )
        if after is None:
            index = len(self._order)
        elif after == "root":
            index = 0
        else:
            self.get(after, param="previous_item_id")
            index = self._order.index(after) + 1
        self._insert(index, item)
        return self._order[index - 1] if index else None

    def append(self, item: Item) -> str | None:
        """Add an item of the session's own, whose id is free, at the end. Returns the id of the item before it."""
        self._insert(len(self._order), item)
        self._make_room()
        return self._order[-2] if len(self._order) > 1 else None

    def before(self, item_id: str) -> str | None:
        """The id of the item before this one."""
        index = self._order.index(item_id)
        return self._order[index - 1] if index else None

    def put(self, item: Item) -> None:
        """Replace an item that is there; one that was deleted meanwhile stays deleted."""
        if item.id is not None and item.id in self._items:
            self._text += _weight(item) - _weight(self._items[item.id])
            self._items[item.id] = item
            self._make_room()

    def delete(self, item_id: str) -> None:
        """Remove an item. Raises PeerError where there is none."""
        self.get(item_id, code="item_delete_invalid_item_id")
        self._remove(item_id)

    def keep_audio(self, item_id: str, form: AudioFormat, audio: bytes) -> None:
        """Keep an item's audio for `with_audio`, as long as the item is there and the budget lasts."""
        if item_id not in self._items:
            return
        self._drop_audio(item_id)
        self._audio[item_id] = form, audio
        self._audio_bytes += len(audio)
        while self._audio_bytes > AUDIO_BUDGET:
            self._drop_audio(next(iter(self._audio)))

    def with_audio(self, item_id: str, form: AudioFormat) -> Item:
        """An item with its audio in `form`, where that is still kept. Raises PeerError where there is none."""
        item = self.get(item_id, code="item_retrieve_invalid_item_id")  # the code that pipecat looks for
        if item_id not in self._audio or not isinstance(item, Message):
            return item
        kept, audio = self._audio[item_id]
        if kept != form:
            audio = form.encode(resample(kept.decode(audio), kept.rate, form.rate))
        content = tuple(
            replace(part, audio=audio) if isinstance(part, InputAudio | OutputAudio) else part for part in item.content
        )
        return replace(item, content=content)

    def cut_audio(self, item_id: str, samples: int) -> None:
        """Keep only the first `samples` of an item's audio."""
        if item_id in self._audio:
            form, audio = self._audio[item_id]
            self.keep_audio(item_id, form, audio[: samples * form.sample_bytes])

    def set_transcript(self, item_id: str, transcript: str) -> None:
        """Fill in the words of a spoken item, if it is still there."""
        item = self._items.get(item_id)
        if isinstance(item, Message):
            content = tuple(
                replace(part, transcript=transcript) if isinstance(part, InputAudio | OutputAudio) else part
                for part in item.content
            )
            self.put(replace(item, content=content))

    def messages(self) -> tuple[ChatMessage, ...]:
        """The conversation as an engine's context."""
        return as_messages(tuple(self._items[item_id] for item_id in self._order))

    def _insert(self, index: int, item: Item) -> None:
        if item.id is None:
            raise ValueError("an item of a conversation has an id")
        self._order.insert(index, item.id)
        self._items[item.id] = item
        self._text += _weight(item)

    def _remove(self, item_id: str) -> None:
        self._order.remove(item_id)
        self._text -= _weight(self._items.pop(item_id))
        self._drop_audio(item_id)

    def _make_room(self) -> None:
        while len(self._order) > 1 and (len(self._order) > MOST_ITEMS or self._text > MOST_TEXT):
            self._remove(self._order[0])

    def _drop_audio(self, item_id: str) -> None:
        if item_id in self._audio:
            self._audio_bytes -= len(self._audio.pop(item_id)[1])


def as_messages(items: tuple[Item, ...]) -> tuple[ChatMessage, ...]:
    """Items as an engine's context; what has no words, such as a reply of which nothing was heard, is left out."""
    return tuple(message for item in items for message in _as_messages(item))


def _as_messages(item: Item) -> Iterator[ChatMessage]:
    """An item's messages: one, but for a user's whose spoken words are not known yet and who has written as well."""
    match item:
        case FunctionCall():
            call = (item.name, item.arguments)
            yield ChatMessage(role="assistant", text="", tool_call_id=item.call_id, tool_call=call)
        case FunctionCallOutput():
            yield ChatMessage(role="tool", text=item.output, tool_call_id=item.call_id)
        case Message():
            for pending, parts in groupby(item.content, lambda part: item.role == "user" and _words(part) is None):
                text = None if pending else " ".join(words for part in parts if (words := _words(part)))
                if text != "":
                    yield ChatMessage(role=item.role, text=text, item_id=item.id)


def _words(part: ContentPart) -> str | None:
    return part.text if isinstance(part, InputText | OutputText) else part.transcript


def _weight(item: Item) -> int:
    """How many characters an item counts for."""
    match item:
        case FunctionCall():
            return len(item.name) + len(item.arguments)
        case FunctionCallOutput():
            return len(item.output)
    return sum(_PART_WEIGHT + len(_words(part) or "") for part in item.content)
