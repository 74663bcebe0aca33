from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streaming.config import FunctionTool
from streaming.engine import (
    Begin,
    CancelReply,
    ChatMessage,
    ConfirmReply,
    EngineLost,
    FrameTimes,
    HearAudio,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    ReplyToolCall,
    Speech,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from streaming.errors import PeerError
from streaming.wire.moshi import (
    MOST_METADATA,
    MOST_SAMPLES,
    Command,
    Control,
    ControlAction,
    Event,
    Frame,
    FrameCodes,
    Handshake,
    Message,
    Metadata,
    OggOpus,
    Pcm,
    Ping,
    Text,
    WireError,
    decode,
    encode,
)

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

AUDIO = np.array([0.5, -1.0, 0.25], np.float32)

texts = st.text(st.characters(codec="utf-8"), max_size=50)
u32 = st.integers(0, 2**32 - 1)
samples = arrays(np.float32, st.integers(0, 200), elements=st.floats(-1, 1, width=32))
codes = arrays(np.int32, st.integers(0, 40), elements=st.integers(-1, 2**31 - 1))
ticks = st.integers(0, 0xFFFF).map(lambda tick: tick * 100_000)
times = st.builds(FrameTimes, queue=ticks, encode=ticks, model=ticks, decode=ticks)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Handshake, protocol=u32, model=u32),
    st.builds(OggOpus, data=st.binary(max_size=300)),
    st.builds(Text, text=texts),
    st.builds(Control, action=st.sampled_from(get_args(ControlAction))),
    st.builds(Metadata, values=st.dictionaries(texts, json_values, max_size=5)),
    st.builds(WireError, message=texts, code=st.from_regex(r"[a-z0-9_]+", fullmatch=True)),
    st.builds(Ping),
    st.builds(Pcm, audio=samples),
    st.builds(Frame, number=u32, heard=u32, times=times, audio=samples),
    st.builds(FrameCodes, number=u32, text=st.integers(-(2**31), 2**31 - 1), own=codes, heard=codes),
    st.builds(Command, command=st.builds(Begin, instructions=texts, voice=texts)),
    st.builds(Command, command=st.builds(HearAudio, audio=samples)),
    st.builds(Event, event=st.builds(ReplyText, response_id=texts, text=texts)),
    st.builds(Event, event=st.builds(Speech, audio=samples, text=texts, heard=u32, times=times)),
)


def same(one: object, other: object) -> bool:
    """Equality, through the arrays."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == np.asarray(other).dtype and np.array_equal(one, np.asarray(other))
    if hasattr(type(one), "__dataclass_fields__"):
        names = [field.name for field in fields(one)]  # type: ignore[arg-type]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return one == other


def read(data: bytes) -> Message:
    message = decode(data)
    assert message is not None
    return message


def refused(data: bytes) -> PeerError:
    with pytest.raises(PeerError) as caught:
        decode(data)
    return caught.value


@settings(max_examples=400)
@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert same(read(encode(message)), message)


@pytest.mark.parametrize(
    "command",
    [
        Transcribe(item_id="i", revision=2, audio=AUDIO, language="en", prompt=None),
        StartReply(
            response_id="r",
            instructions="Be brief.",
            messages=(
                ChatMessage(role="user", text=None, item_id="i"),
                ChatMessage(role="assistant", text="x", tool_call=("f", "{}")),
            ),
            speaks=True,
            voice="v",
            tools=(FunctionTool(name="f", parameters={"type": "object"}),),
        ),
        ConfirmReply(response_id="r"),
        CancelReply(response_id="r"),
        Begin(instructions="Be kind.", voice="NATF2"),
        HearAudio(audio=AUDIO),
    ],
    ids=lambda command: type(command).__name__,
)
def test_every_command_travels(command: Any) -> None:
    assert same(read(encode(Command(command=command))), Command(command=command))


@pytest.mark.parametrize(
    "event",
    [
        Transcript(item_id="i", revision=1, text="hello", final=False),
        TranscriptFailed(item_id="i", revision=1, message="no words"),
        ReplyText(response_id="r", text="Hi"),
        ReplyAudio(response_id="r", audio=AUDIO, text_end=2),
        ReplyStage(response_id="r", stage="first_token", at=2**60),
        ReplyToolCall(response_id="r", call_id="c", name="f", arguments="{}"),
        ReplyEnded(response_id="r", reason="completed", input_tokens=1, output_tokens=2),
        ReplyFailed(response_id="r", code="x", message="y"),
        Speech(audio=AUDIO, text="a", heard=1920, times=FrameTimes(queue=1)),
        EngineLost(message="gone"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_event_travels(event: Any) -> None:
    assert same(read(encode(Event(event=event))), Event(event=event))


# --- as others have it


def test_a_python_server_s_handshake_is_bare_and_a_rust_one_s_is_not() -> None:
    assert decode(b"\0") == Handshake()
    assert decode(b"\0" + struct.pack("<II", 0, 3)) == Handshake(protocol=0, model=3)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"full: no slot is free", "full", "no slot is free"),
        (b"out of memory", "error", "out of memory"),
        (b"CUDA error: out of memory", "error", "CUDA error: out of memory"),
        (b": nothing", "error", ": nothing"),
        (b"a: b: c", "a", "b: c"),
    ],
)
def test_an_error_s_code_is_optional(body: bytes, code: str, message: str) -> None:
    assert decode(b"\5" + body) == WireError(code=code, message=message)


def test_audio_lies_as_little_endian_floats() -> None:
    assert encode(Pcm(audio=AUDIO)) == b"\x10" + struct.pack("<3f", 0.5, -1.0, 0.25)
    doubled = np.repeat(AUDIO.astype(np.float64), 2)[::2]
    assert encode(Pcm(audio=doubled)) == encode(Pcm(audio=AUDIO))  # type: ignore[arg-type]


def test_times_saturate() -> None:
    frame = Frame(number=0, heard=0, times=FrameTimes(queue=10**12, encode=-5, model=149_999), audio=AUDIO)
    assert read(encode(frame)).times == FrameTimes(queue=6_553_500_000, model=100_000)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", sorted({*range(256)} - {*range(7), 0x10, 0x11, 0x12, 0x20, 0x21}))
def test_a_kind_that_is_not_known_is_discarded(kind: int) -> None:
    assert decode(bytes((kind,)) + b"whatever") is None


# --- what cannot be read


@pytest.mark.parametrize(
    ("data", "code", "what"),
    [
        (b"", "empty_message", "kind"),
        (b"\0\1\2\3", "invalid_message", "0x00"),
        (b"\0" + bytes(9), "invalid_message", "8 bytes"),
        (b"\2\xff\xfe", "invalid_message", "utf-8"),
        (b"\3", "invalid_message", "one byte below 4"),
        (b"\3\4", "invalid_message", "one byte below 4"),
        (b"\3\0\0", "invalid_message", "one byte below 4"),
        (b"\4", "invalid_message", "0x04"),
        (b"\4{", "invalid_message", "0x04"),
        (b"\4[]", "invalid_value", "expected an object"),
        (b'\4{"a":NaN}', "invalid_value", "finite"),
        (b'\4{"a":"\\ud800"}', "invalid_value", "surrogate"),
        (b'\4{"a":' + b"[" * 100 + b"]" * 100 + b"}", "invalid_value", "nesting"),
        (b"\4" + b"[" * 100_000, "invalid_message", "0x04"),
        (b"\4" + b" " * MOST_METADATA + b"{}", "invalid_message", "at most"),
        (b'\4{"a":' + b"1" * 5000 + b"}", "invalid_message", "0x04"),
        (b"\5\xff", "invalid_message", "utf-8"),
        (b"\x10abc", "invalid_audio", "got 3 bytes"),
        (b"\x10" + bytes(4 * MOST_SAMPLES + 4), "invalid_audio", "at most 24000"),
        (b"\x10" + struct.pack("<2f", 0.1, float("nan")), "invalid_audio", "not finite"),
        (b"\x10" + struct.pack("<f", float("-inf")), "invalid_audio", "not finite"),
        (b"\x11" + bytes(15), "invalid_message", "0x11"),
        (b"\x11" + bytes(16) + b"abc", "invalid_audio", "got 3 bytes"),
        (b"\x11" + bytes(16) + struct.pack("<f", float("inf")), "invalid_audio", "not finite"),
        (b"\x11" + bytes(20 + 4 * MOST_SAMPLES), "invalid_audio", "at most 24000"),
        (b"\x12" + bytes(9), "invalid_message", "0x12"),
        (b"\x12" + struct.pack("<IiBB", 1, 2, 1, 1) + bytes(4), "invalid_message", "expected 2 codes"),
        (b"\x12" + struct.pack("<IiBB", 1, 2, 1, 0) + bytes(5), "invalid_message", "expected 1 codes"),
        (b"\x12" + struct.pack("<IiBB", 1, 2, 255, 255) + bytes(2**20), "invalid_message", "expected 510 codes"),
        (b"\x20", "invalid_message", "0x20"),
        (b"\x20{}", "invalid_message", "one of: Transcribe"),
        (b'\x20["Transcript", {}]', "invalid_message", "one of: Transcribe"),
        (b'\x20[["Begin"], {}]', "invalid_message", "one of: Transcribe"),
        (b'\x20["Begin", {"voice": ""}]', "missing_required_parameter", "Begin.instructions"),
        (b'\x20["Begin", {"voice": 1, "instructions": ""}]', "invalid_value", "Begin.voice"),
        (b'\x20["CancelReply", {"response_id": "r", "x": 1}]', "unknown_parameter", "CancelReply.x"),
        (b'\x20["HearAudio", {"audio": "AAAA"}]', "invalid_value", "HearAudio.audio"),
        (b'\x20["HearAudio", {"audio": "AADAfw=="}]', "invalid_audio", "not finite"),
        (b"\x21", "invalid_message", "0x21"),
        (b'\x21["Begin", {}]', "invalid_message", "one of: Transcript"),
        (b'\x21["Speech", {"audio": "AACAfw=="}]', "invalid_audio", "not finite"),
    ],
)
def test_what_is_no_message_is_named(data: bytes, code: str, what: str) -> None:
    error = refused(data)
    assert error.code == code
    assert what in error.message


KINDS = [*range(7), 0x10, 0x11, 0x12, 0x20, 0x21]


@settings(max_examples=500)
@given(st.sampled_from(KINDS) | st.integers(0, 255), st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(kind: int, body: bytes) -> None:
    with contextlib.suppress(PeerError):
        message = decode(bytes((kind,)) + body)
        assert (message is None) == (kind not in KINDS)
        assert message is None or same(decode(encode(message)), message)


@settings(max_examples=500)
@given(st.sampled_from([b"\4", b"\x20", b"\x21"]), json_values, st.sampled_from(["Begin", "Speech", "StartReply", "x"]))
def test_random_json_raises_nothing_else(kind: bytes, value: object, name: str) -> None:
    for body in (value, [name, value]):
        with contextlib.suppress(PeerError):
            message = read(kind + json.dumps(body).encode())
            assert same(decode(encode(message)), message)


@settings(max_examples=300)
@given(messages, st.data())
def test_broken_messages_raise_nothing_else(message: Message, data: st.DataObject) -> None:
    sent = bytearray(encode(message))
    sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sent)))
    for broken in (bytes(sent), bytes(sent[:cut])):
        with contextlib.suppress(PeerError):
            decode(broken)
