"""OpenAI Realtime (GA) over JSON text: events to messages and back, for both ends.

The vocabulary is `streaming.client_events` and `streaming.server_events`, whose fields are the wire's own. Source:
`openai.types.realtime` of the `openai` package.

A client leaves out what it does not set; a server shows every field, null where there is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args, get_type_hints

from streaming import schema
from streaming.client_events import ClientEvent, CreateItem, CreateResponse
from streaming.errors import PeerError
from streaming.items import Message
from streaming.server_events import ServerEvent

_PARTS_OF_ROLE = {
    "user": ("input_text", "input_audio"),
    "assistant": ("output_text", "output_audio"),
    "system": ("input_text",),
}

_SERVER_TYPES = frozenset(tag for cls in get_args(ServerEvent) for tag in get_args(get_type_hints(cls)["type"]))

_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """A server event that Muse's vocabulary does not have; `fields` is the whole message."""

    type: str
    fields: Mapping[str, object]


def encode_client(event: ClientEvent) -> str:
    """The message for a client's event."""
    return _write(schema.to_json(event, omit_none=True))


def encode_server(event: ServerEvent) -> str:
    """The message for a server's event."""
    return _write(schema.to_json(event))


def decode_client(text: str | bytes) -> ClientEvent:
    """The event in a client's message.

    Raises PeerError: `invalid_json`, `invalid_value`, `missing_required_parameter` or `unknown_parameter`; its
    `event_id` is the message's own wherever that can be read.
    """
    message = _read(text)
    try:
        event = cast(ClientEvent, schema.decode(ClientEvent, message))
        _check_roles(event)
    except PeerError as error:
        event_id = message.get("event_id")
        error.event_id = event_id if isinstance(event_id, str) else None
        raise
    return event


def decode_server(text: str | bytes) -> ServerEvent | UnknownEvent:
    """The event in a server's message. Fields that are not known are skipped: servers grow.

    Raises PeerError for what is not an event at all, or for a known event without its fields.
    """
    message = _read(text)
    kind = message.get("type")
    if isinstance(kind, str) and kind not in _SERVER_TYPES:
        return UnknownEvent(type=kind, fields=message)
    return cast(ServerEvent, schema.decode(ServerEvent, message, strict=False))


def _read(text: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(text.decode() if isinstance(text, bytes) else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, digits without end, nesting without end
        raise PeerError("The message is not valid JSON.", code="invalid_json") from None
    if not isinstance(message, dict):
        raise PeerError("The message is not a JSON object.", code="invalid_json")
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _check_roles(event: ClientEvent) -> None:
    """Each role has its own kinds of content."""
    if isinstance(event, CreateItem):
        _check_role(event.item, "item")
    elif isinstance(event, CreateResponse) and event.response and event.response.input:
        for index, item in enumerate(event.response.input):
            _check_role(item, f"response.input[{index}]")


def _check_role(item: object, path: str) -> None:
    if not isinstance(item, Message):
        return
    allowed = _PARTS_OF_ROLE[item.role]
    for index, part in enumerate(item.content):
        if part.type not in allowed:
            param = f"{path}.content[{index}].type"
            message = f"{param}: expected {' or '.join(allowed)} from the {item.role}, got {part.type}"
            raise PeerError(message, code="invalid_value", param=param)
