"""The worker's wire: Moshi's `/api/chat` with additions, messages to bytes and back, for both ends.

Every message is binary and its first byte is its kind. Kinds below 0x10 are Moshi's own (source: `rust/protocol.md`
and the servers of kyutai-labs/moshi); those from 0x10 on are Muse's, and a stock peer discards them. The page
`docs/protocols/worker.md` specifies both. Numbers are little-endian; audio is mono, 24 kHz.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from streaming.engine import EngineCommand, EngineEvent, FrameTimes, Samples
from streaming.errors import PeerError
from streaming.schema import decode as from_hint
from streaming.schema import from_json, to_json

RATE = 24_000
"""Hz, of all audio on this wire."""

FRAME_SAMPLES = 1920
"""Samples in a frame: 80 ms."""

MOST_SAMPLES = RATE
"""Samples of PCM in one message: 1 s."""

MOST_METADATA = 256 * 1024
"""Bytes of metadata in one message."""

Codes = npt.NDArray[np.int32]
"""One frame's codes, shape (codebooks,); -1 where there is none."""

ControlAction = Literal["start", "end_turn", "pause", "restart"]
_ACTIONS: tuple[ControlAction, ...] = get_args(ControlAction)

_FRAME = struct.Struct("<II4H")  # number, heard in frames; queue, encode, model, decode in units of 100 us
_TICK_NS = 100_000
_VERSION = struct.Struct("<II")
_CODES = struct.Struct("<IiBB")  # number, text token; how many own codes, and of what was heard
_ERROR_CODE = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The server will listen. The Rust server says its protocol and model, the Python one nothing."""

    protocol: int = 0
    model: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OggOpus:
    """The next bytes of one Ogg Opus stream, cut anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words of the reply, exactly as they join on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a stock client may ask for."""

    action: ControlAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """A JSON object; its `type` says what it is (see the protocol's page)."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireError:
    """What went wrong, safe to show. `code` is a stable name in snake case; a stock server sends words only."""

    message: str
    code: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """A sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcm:
    """The next of the user's audio, float32, at most `MOST_SAMPLES`."""

    audio: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the model says in frame `number`, made when it had heard `heard` frames.

    `audio` is empty while the model has not begun to speak: for the first frames, which its delays take.
    """

    number: int
    heard: int
    times: FrameTimes
    audio: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCodes:
    """The codes behind frame `number`: the model's text token and own codes, and the codes of what it heard."""

    number: int
    text: int
    own: Codes
    heard: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to a turn-based engine."""

    command: EngineCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event from a turn-based engine."""

    event: EngineEvent


Message = (
    Handshake | OggOpus | Text | Control | Metadata | WireError | Ping | Pcm | Frame | FrameCodes | Command | Event
)

_COMMANDS: Mapping[str, type[Any]] = {cls.__name__: cls for cls in get_args(EngineCommand)}
_EVENTS: Mapping[str, type[Any]] = {cls.__name__: cls for cls in get_args(EngineEvent)}


def encode(message: Message) -> bytes:  # noqa: PLR0911 one arm for each kind
    """The message's bytes. `times` saturate at 6.5 s."""
    match message:
        case Handshake():
            return b"\x00" + _VERSION.pack(message.protocol, message.model)
        case OggOpus():
            return b"\x01" + message.data
        case Text():
            return b"\x02" + message.text.encode()
        case Control():
            return bytes((0x03, _ACTIONS.index(message.action)))
        case Metadata():
            return b"\x04" + _to_json(message.values)
        case WireError():
            return b"\x05" + f"{message.code}: {message.message}".encode()
        case Ping():
            return b"\x06"
        case Pcm():
            return b"\x10" + _to_floats(message.audio)
        case Frame():
            times = (message.times.queue, message.times.encode, message.times.model, message.times.decode)
            ticks = (min(max(time, 0) // _TICK_NS, 0xFFFF) for time in times)
            return b"\x11" + _FRAME.pack(message.number, message.heard, *ticks) + _to_floats(message.audio)
        case FrameCodes():
            head = _CODES.pack(message.number, message.text, len(message.own), len(message.heard))
            return b"\x12" + head + np.concatenate((message.own, message.heard)).astype("<i4").tobytes()
        case Command():
            return b"\x20" + _to_json([type(message.command).__name__, to_json(message.command)])
        case Event():
            return b"\x21" + _to_json([type(message.event).__name__, to_json(message.event)])


def decode(data: bytes) -> Message | None:
    """The message in `data`; None for a kind that is not known, which a peer may have of a later version.

    Raises PeerError for what is not a message of its kind: `empty_message`, `invalid_message` or `invalid_audio`, and
    for a field of a JSON body what `streaming.schema.from_json` does, with the field's path.
    """
    if not data:
        raise PeerError("the message is empty; expected a kind byte", code="empty_message")
    try:
        return _decode(data[0], data[1:])
    except (ValueError, struct.error, RecursionError) as error:
        raise _invalid(data[0], str(error)) from None


def _decode(kind: int, body: bytes) -> Message | None:  # noqa: PLR0911, PLR0912 one arm for each kind
    match kind:
        case 0x00:
            protocol, model = _VERSION.unpack(body) if body else (0, 0)
            return Handshake(protocol=protocol, model=model)
        case 0x01:
            return OggOpus(data=body)
        case 0x02:
            return Text(text=body.decode())
        case 0x03:
            if len(body) != 1 or body[0] >= len(_ACTIONS):
                raise ValueError(f"expected one byte below {len(_ACTIONS)}")
            return Control(action=_ACTIONS[body[0]])
        case 0x04:
            return Metadata(values=_metadata(body))
        case 0x05:
            code, colon, message = body.decode().partition(": ")
            known = colon and _ERROR_CODE.fullmatch(code)
            return WireError(code=code, message=message) if known else WireError(message=body.decode())
        case 0x06:
            return Ping()
        case 0x10:
            return Pcm(audio=_samples(body))
        case 0x11:
            number, heard, *ticks = _FRAME.unpack_from(body)
            queue, encode_, model, decode_ = (tick * _TICK_NS for tick in ticks)
            times = FrameTimes(queue=queue, encode=encode_, model=model, decode=decode_)
            return Frame(number=number, heard=heard, times=times, audio=_samples(body[_FRAME.size :]))
        case 0x12:
            return _codes(body)
        case 0x20:
            return Command(command=cast(EngineCommand, _named(body, _COMMANDS)))
        case 0x21:
            return Event(event=cast(EngineEvent, _named(body, _EVENTS)))
        case _:
            return None


def _codes(body: bytes) -> FrameCodes:
    number, text, own, heard = _CODES.unpack_from(body)
    if len(body) != _CODES.size + 4 * (own + heard):
        raise ValueError(f"expected {own + heard} codes of 4 bytes, got {len(body) - _CODES.size} bytes")
    values = np.frombuffer(body, "<i4", offset=_CODES.size).astype(np.int32)
    return FrameCodes(number=number, text=text, own=values[:own], heard=values[own:])


def _samples(body: bytes) -> Samples:
    """Raises PeerError for audio that is too much, cut inside a sample, or not finite."""
    if len(body) % 4 or len(body) > 4 * MOST_SAMPLES:
        raise PeerError(
            f"expected float32 samples, at most {MOST_SAMPLES}; got {len(body)} bytes", code="invalid_audio"
        )
    audio = np.frombuffer(body, "<f4").astype(np.float32, copy=False)
    _check_finite(audio)
    return audio


def _check_finite(audio: Samples) -> None:
    if not np.isfinite(audio).all():
        raise PeerError("the audio has samples that are not finite (NaN or infinite)", code="invalid_audio")


def _to_floats(audio: Samples) -> bytes:
    return np.ascontiguousarray(audio, "<f4").tobytes()


def _to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _metadata(body: bytes) -> Mapping[str, Any]:
    if len(body) > MOST_METADATA:
        raise ValueError(f"expected at most {MOST_METADATA} bytes, got {len(body)}")
    return cast(Mapping[str, Any], from_hint(Mapping[str, object], json.loads(body), path="metadata"))


def _named(body: bytes, classes: Mapping[str, type[Any]]) -> object:
    match json.loads(body):
        case [str(name), fields] if name in classes:
            named = from_json(classes[name], fields, path=name)
        case _:
            raise ValueError(f"expected [name, fields], where name is one of: {', '.join(classes)}")
    if isinstance(audio := getattr(named, "audio", None), np.ndarray):
        _check_finite(audio)
    return named


def _invalid(kind: int, what: str) -> PeerError:
    return PeerError(f"the message of kind {kind:#04x} cannot be read: {what}", code="invalid_message")
