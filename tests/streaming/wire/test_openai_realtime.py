"""The OpenAI Realtime codec, held against the `openai` package's own types."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import realtime as ga
from openai.types.realtime import realtime_audio_config_input_param as ga_input
from openai.types.realtime import realtime_audio_input_turn_detection_param as ga_turns
from openai.types.realtime import realtime_conversation_item_assistant_message_param as ga_assistant
from openai.types.realtime import realtime_conversation_item_user_message_param as ga_user
from pydantic import BaseModel, TypeAdapter

from streaming import client_events, config, items
from streaming.client_events import AppendAudio, ClientEvent, CreateItem, UpdateSession
from streaming.errors import PeerError
from streaming.merge_patch import merge_patch
from streaming.schema import Within, from_json, to_json
from streaming.server_events import AudioDelta, BargeInProgress, Notice, ServerEvent, SpeechStarted
from streaming.wire.openai_realtime import UnknownEvent, decode_client, decode_server, encode_client, encode_server

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

# --- any event, from its type hints ----------------------------------------------------------------------------------

SCALARS: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
    object: st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    type(None): st.none(),
}
PARTS = {
    "user": items.InputText | items.InputAudio,
    "assistant": items.OutputText | items.OutputAudio,
    "system": items.InputText,
}


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Values of `hint` as the wire can carry them."""
    origin, args = get_origin(hint), get_args(hint)
    strategies: dict[object, Callable[[], st.SearchStrategy[Any]]] = {
        Annotated: lambda: within(args[0], args[1]),
        Literal: lambda: st.sampled_from(args),
        Union: lambda: st.one_of(*map(anything, args)),
        types.UnionType: lambda: st.one_of(*map(anything, args)),
        tuple: lambda: st.lists(anything(args[0]), max_size=2).map(tuple),
        dict: lambda: st.dictionaries(st.text(max_size=3), anything(args[1]), max_size=2),
        Mapping: lambda: st.dictionaries(st.text(max_size=3), anything(args[1]), max_size=2),
    }
    if origin is not None:
        return strategies[origin]()
    if hint is items.Message:
        return st.sampled_from(tuple(PARTS)).flatmap(message)
    return SCALARS[hint] if hint in SCALARS else built(hint)


def within(hint: object, bounds: Within) -> st.SearchStrategy[Any]:
    if hint is int:
        return st.integers(int(bounds.low), int(bounds.high))
    return st.floats(bounds.low, bounds.high)


def message(role: str) -> st.SearchStrategy[items.Message]:
    return built(items.Message, role=st.just(role), content=st.lists(anything(PARTS[role]), max_size=2).map(tuple))


def built(cls: Any, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: anything(hints[field.name]) for field in dataclasses.fields(cls)}
    return st.builds(cls, **{**fields, **fixed})


@given(st.one_of(*map(anything, get_args(ClientEvent))))
def test_client_events_survive_the_way_there_and_back(event: ClientEvent) -> None:
    assert decode_client(encode_client(event)) == event
    assert decode_client(encode_client(event).encode()) == event


@given(st.one_of(*map(anything, get_args(ServerEvent))))
def test_server_events_survive_the_way_there_and_back(event: ServerEvent) -> None:
    assert decode_server(encode_server(event)) == event


# --- what we send is what openai's client expects --------------------------------------------------------------------

BEYOND_GA = {
    "id",  # of the session: sent by the service, absent from the SDK's type
    "object",
    "metadata",  # of the session: why it has the model that it has
    "speed",  # of one response's audio
    "param",  # of a failed response's error
    "event_id",
}
"""Fields that we send and openai's types do not name where we send them; its models keep such fields."""

MUSE_S_OWN = (BargeInProgress, Notice)
server_event: TypeAdapter[Any] = TypeAdapter(ga.RealtimeServerEvent)


def unexpected_fields(model: object) -> set[str]:
    """Names that openai's models had no field for, at any depth."""
    if isinstance(model, list):
        return set[str]().union(*map(unexpected_fields, model))
    if not isinstance(model, BaseModel):
        return set()
    own = [getattr(model, name) for name in type(model).model_fields]
    return set(model.model_extra or ()) | unexpected_fields(own)


@given(st.one_of(*(anything(event) for event in get_args(ServerEvent) if event not in MUSE_S_OWN)))
def test_openai_parses_every_server_event(event: ServerEvent) -> None:
    parsed = server_event.validate_json(encode_server(event))
    assert parsed.type == event.type
    assert unexpected_fields(parsed) <= BEYOND_GA


# --- what openai's client sends, we take -----------------------------------------------------------------------------

TRANSCRIPTION: ga.AudioTranscriptionParam = {
    "model": "gpt-4o-transcribe",
    "language": "en",
    "languages": ["en"],
    "keywords": ["Muse"],
    "prompt": "Names: Muse.",
    "delay": "low",
}
TOOL: ga.RealtimeFunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
}
SESSION: ga.RealtimeSessionCreateRequestParam = {
    "type": "realtime",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "noise_reduction": {"type": "far_field", "strength": 0.5},
            "transcription": TRANSCRIPTION,
            "turn_detection": {
                "type": "server_vad",
                "create_response": True,
                "idle_timeout_ms": None,
                "interrupt_response": False,
                "prefix_padding_ms": 200,
                "silence_duration_ms": 400,
                "threshold": 0.6,
            },
        },
        "output": {"format": {"type": "audio/pcma"}, "speed": 1.25, "voice": "marin"},
    },
    "include": ["item.input_audio_transcription.logprobs"],
    "instructions": "Be brief.",
    "max_output_tokens": 200,
    "model": "gpt-realtime",
    "output_modalities": ["audio"],
    "parallel_tool_calls": False,
    "prompt": None,
    "reasoning": {"effort": "low"},
    "tool_choice": {"type": "function", "name": "weather"},
    "tools": [TOOL],
    "tracing": "auto",
    "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
}
MESSAGES: list[ga.ConversationItemParam] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}], "id": "item_1"},
    {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AAA=", "transcript": "Hi"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}], "status": "completed"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": "Hi"}]},
    {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Smile"}]},
    {"type": "function_call", "name": "weather", "arguments": "{}", "call_id": "call_1"},
    {"type": "function_call_output", "call_id": "call_1", "output": "Sun", "object": "realtime.item"},
]
RESPONSE: ga.RealtimeResponseCreateParamsParam = {
    "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "alloy"}},
    "conversation": "none",
    "input": MESSAGES,
    "instructions": "Be brief.",
    "max_output_tokens": "inf",
    "metadata": {"a": "b"},
    "output_modalities": ["text"],
    "parallel_tool_calls": True,
    "prompt": None,
    "reasoning": {},
    "tool_choice": "none",
    "tools": [TOOL],
}
CLIENT_EVENTS: list[ga.RealtimeClientEventParam] = [
    {"type": "session.update", "session": SESSION, "event_id": "e"},
    {"type": "input_audio_buffer.append", "audio": "AAA=", "event_id": "e"},
    {"type": "input_audio_buffer.commit", "event_id": "e"},
    {"type": "input_audio_buffer.clear", "event_id": "e"},
    *(
        ga.ConversationItemCreateEventParam(type="conversation.item.create", item=item, event_id="e")
        for item in MESSAGES
    ),
    {"type": "conversation.item.create", "item": MESSAGES[0], "previous_item_id": "root", "event_id": "e"},
    {"type": "conversation.item.retrieve", "item_id": "i", "event_id": "e"},
    {"type": "conversation.item.delete", "item_id": "i", "event_id": "e"},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 120, "event_id": "e"},
    {"type": "response.create", "event_id": "e"},
    {"type": "response.create", "response": RESPONSE, "event_id": "e"},
    {"type": "response.cancel", "response_id": "r", "event_id": "e"},
    {"type": "output_audio_buffer.clear", "event_id": "e"},
]


@pytest.mark.parametrize("message", CLIENT_EVENTS, ids=lambda message: str(message["type"]))
def test_every_client_event_is_taken(message: ga.RealtimeClientEventParam) -> None:
    event = decode_client(json.dumps(message))
    assert (event.type, event.event_id) == (message["type"], "e")
    kept = json.loads(encode_client(event))
    for name, value in message.items():
        if name not in ("session", "response", "item"):
            assert kept[name] == value


def test_no_client_event_is_forgotten() -> None:
    known = {get_args(get_type_hints(event)["type"])[0] for event in get_args(ga.RealtimeClientEventParam)}
    assert {str(message["type"]) for message in CLIENT_EVENTS} == known


def test_every_session_setting_is_taken() -> None:
    assert SESSION.keys() == typing.cast(Any, ga.RealtimeSessionCreateRequestParam).__annotations__.keys()
    event = decode_client(json.dumps({"type": "session.update", "session": SESSION}))
    assert isinstance(event, UpdateSession)
    settings = from_json(config.SessionConfig, merge_patch(to_json(config.SessionConfig()), event.session))
    assert settings.tool_choice == config.NamedTool(name="weather")
    assert settings.audio.output == config.AudioOutput(format=config.PcmaFormat(), speed=1.25, voice="marin")
    assert settings.audio.input.turn_detection == config.ServerVad(
        interrupt_response=False, prefix_padding_ms=200, silence_duration_ms=400, threshold=0.6
    )


def test_an_item_may_be_named_in_a_response() -> None:
    reference: ga.ResponseItemReferenceParam = {"type": "item_reference", "id": "item_1"}
    event = decode_client(json.dumps({"type": "response.create", "response": {"input": [reference]}}))
    assert isinstance(event, client_events.CreateResponse)
    assert event.response is not None
    assert event.response.input == (items.ItemReference(id="item_1"),)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (config.SessionConfig, ga.RealtimeSessionCreateRequestParam),
        (config.AudioConfig, ga.RealtimeAudioConfigParam),
        (config.AudioInput, ga.RealtimeAudioConfigInputParam),
        (config.AudioOutput, ga.RealtimeAudioConfigOutputParam),
        (config.NoiseReduction, ga_input.NoiseReduction),
        (config.Transcription, ga.AudioTranscriptionParam),
        (config.ServerVad, ga_turns.ServerVad),
        (config.SemanticVad, ga_turns.SemanticVad),
        (config.FunctionTool, ga.RealtimeFunctionToolParam),
        (client_events.ResponseParams, ga.RealtimeResponseCreateParamsParam),
        (items.InputText, ga_user.Content),
        (items.InputAudio, ga_user.Content),
        (items.OutputText, ga_assistant.Content),
        (items.OutputAudio, ga_assistant.Content),
    ],
)
def test_openais_names_are_used_or_ignored(ours: Any, theirs: Any) -> None:
    used = {field.name for field in dataclasses.fields(ours)}
    ignored: frozenset[str] = getattr(ours, "IGNORED_FIELDS", frozenset())
    assert not used & ignored
    assert theirs.__annotations__.keys() <= used | ignored
    assert ignored <= theirs.__annotations__.keys() | {"expires_at"}


# --- bad input -------------------------------------------------------------------------------------------------------

USER_SAYS = '{"type":"conversation.item.create","event_id":"e","item":{"type":"message","role":"user","content":[%s]}}'


@pytest.mark.parametrize(
    ("text", "code", "param", "event_id"),
    [
        ("", "invalid_json", None, None),
        ("{", "invalid_json", None, None),
        (b"\xff\xfe", "invalid_json", None, None),
        ("[]", "invalid_json", None, None),
        ("null", "invalid_json", None, None),
        ("9" * 10_000, "invalid_json", None, None),
        ("[" * 200_000, "invalid_json", None, None),
        ('{"type":"response.create","response":{"max_output_tokens":NaN}}', "invalid_json", None, None),
        ("{}", "missing_required_parameter", "type", None),
        ('{"event_id":"e"}', "missing_required_parameter", "type", "e"),
        ('{"type":7,"event_id":"e"}', "invalid_value", "type", "e"),
        ('{"type":"session.create","event_id":"e"}', "invalid_value", "type", "e"),
        ('{"type":"response.cancel","event_id":7}', "invalid_value", "event_id", None),
        ('{"type":"response.cancel","event_id":"e","now":1}', "unknown_parameter", "now", "e"),
        ('{"type":"input_audio_buffer.append","event_id":"e"}', "missing_required_parameter", "audio", "e"),
        ('{"type":"input_audio_buffer.append","event_id":"e","audio":[0]}', "invalid_value", "audio", "e"),
        ('{"type":"input_audio_buffer.append","event_id":"e","audio":"A-_A"}', "invalid_value", "audio", "e"),
        ('{"type":"session.update","event_id":"e","session":[]}', "invalid_value", "session", "e"),
        (
            '{"type":"session.update","event_id":"e","session":' + '{"a":' * 40 + "1" + "}" * 41,
            "invalid_value",
            "session",
            "e",
        ),
        (
            '{"type":"conversation.item.truncate","event_id":"e","item_id":"i","content_index":0,"audio_end_ms":-1}',
            "invalid_value",
            "audio_end_ms",
            "e",
        ),
        (USER_SAYS % '{"type":"text","text":"hi"}', "invalid_value", "item.content[0].type", "e"),
        (USER_SAYS % '{"type":"input_image","image_url":"x"}', "invalid_value", "item.content[0].type", "e"),
        (USER_SAYS % '{"type":"output_text","text":"hi"}', "invalid_value", "item.content[0].type", "e"),
        (
            '{"type":"response.create","event_id":"e","response":{"input":[{"type":"message","role":"system",'
            '"content":[{"type":"input_audio"}]}]}}',
            "invalid_value",
            "response.input[0].content[0].type",
            "e",
        ),
        (
            '{"type":"response.create","event_id":"e","response":{"tools":[{"type":"mcp"}]}}',
            "invalid_value",
            "response.tools[0].type",
            "e",
        ),
    ],
)
def test_a_bad_message_is_refused_by_name(
    text: str | bytes, code: str, param: str | None, event_id: str | None
) -> None:
    with pytest.raises(PeerError) as caught:
        decode_client(text)
    assert (caught.value.code, caught.value.param, caught.value.event_id) == (code, param, event_id)


@given(st.text() | st.binary())
def test_no_message_does_worse_than_be_refused(text: str | bytes) -> None:
    with pytest.raises(PeerError):
        decode_client(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(CLIENT_EVENTS), st.data())
def test_a_spoilt_event_is_taken_or_refused(message: dict[str, object], data: st.DataObject) -> None:
    spoilt = dict(message)
    spoilt[data.draw(st.sampled_from(sorted(spoilt)))] = data.draw(json_values)
    with contextlib.suppress(PeerError):
        decode_client(json.dumps(spoilt))


# --- the other end ---------------------------------------------------------------------------------------------------


def test_a_client_survives_what_it_does_not_know() -> None:
    text = '{"type":"rate_limits.updated","event_id":"e","rate_limits":[]}'
    assert decode_server(text) == UnknownEvent(type="rate_limits.updated", fields=json.loads(text))
    grown = '{"type":"input_audio_buffer.speech_started","event_id":"e","item_id":"i","audio_start_ms":3,"level":9}'
    assert decode_server(grown) == SpeechStarted(event_id="e", item_id="i", audio_start_ms=3)


def test_a_client_refuses_half_an_event() -> None:
    with pytest.raises(PeerError) as caught:
        decode_server('{"type":"input_audio_buffer.speech_started","event_id":"e"}')
    assert caught.value.code == "missing_required_parameter"


def test_audio_travels_as_base64() -> None:
    append = json.loads(encode_client(AppendAudio(audio=b"\x00\x01")))
    assert append == {"type": "input_audio_buffer.append", "audio": "AAE="}
    delta = AudioDelta(response_id="r", item_id="i", output_index=0, content_index=0, delta=b"\x00\x01", event_id="e")
    assert json.loads(encode_server(delta))["delta"] == "AAE="


def test_a_client_leaves_out_what_it_does_not_set() -> None:
    text = items.InputText(text="hi")
    event = CreateItem(item=items.Message(role="user", content=(text,)))
    assert json.loads(encode_client(event)) == {
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "object": "realtime.item",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "hi"}],
        },
    }
