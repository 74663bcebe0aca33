"""What a conversation is made of: messages and function calls, as in OpenAI Realtime (GA).

`IGNORED_FIELDS` are GA fields that clients may send beside a part's own and that mean nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

ItemStatus = Literal["completed", "incomplete", "in_progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputText:
    """Text from the user or the system."""

    IGNORED_FIELDS: ClassVar = frozenset({"audio", "detail", "image_url", "transcript"})

    text: str
    type: Literal["input_text"] = "input_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAudio:
    """The user's speech: bytes in the session's input format, and its transcript once there is one."""

    IGNORED_FIELDS: ClassVar = frozenset({"detail", "image_url", "text"})

    audio: bytes | None = None
    transcript: str | None = None
    type: Literal["input_audio"] = "input_audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputText:
    """Text that the model wrote."""

    IGNORED_FIELDS: ClassVar = frozenset({"audio", "transcript"})

    text: str
    type: Literal["output_text"] = "output_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAudio:
    """Speech that the model spoke: bytes in the session's output format, and its words."""

    IGNORED_FIELDS: ClassVar = frozenset({"text"})

    audio: bytes | None = None
    transcript: str | None = None
    type: Literal["output_audio"] = "output_audio"


ContentPart = InputText | InputAudio | OutputText | OutputAudio


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something said or written by one side."""

    role: Literal["user", "assistant", "system"]
    content: tuple[ContentPart, ...]
    id: str | None = None
    object: Literal["realtime.item"] = "realtime.item"
    status: ItemStatus = "completed"
    type: Literal["message"] = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """The model asks for a function; `arguments` is JSON text."""

    name: str
    arguments: str
    call_id: str | None = None
    id: str | None = None
    object: Literal["realtime.item"] = "realtime.item"
    status: ItemStatus = "completed"
    type: Literal["function_call"] = "function_call"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCallOutput:
    """The client's answer to a function call."""

    call_id: str
    output: str
    id: str | None = None
    object: Literal["realtime.item"] = "realtime.item"
    status: ItemStatus = "completed"
    type: Literal["function_call_output"] = "function_call_output"


Item = Message | FunctionCall | FunctionCallOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReference:
    """An item of the conversation, named in a response's `input`."""

    id: str
    type: Literal["item_reference"] = "item_reference"
