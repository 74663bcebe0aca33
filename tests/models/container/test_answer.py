import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.container.answer import MOST_JSON, Answer, AnswerReader
from streaming.errors import EngineError
from tests.models.container.fake_container import body, npy

WAVE = np.linspace(-1, 1, 100, dtype=np.float32)
FILE = base64.b64encode(npy(WAVE)).decode()


def read(data: bytes, *, piece: int = 1 << 16) -> Answer:
    reader = AnswerReader(1000)
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    return reader.finish()


@pytest.mark.parametrize(
    "data",
    [
        body(WAVE, text="Hello."),
        json.dumps({"text": "Hello.", "audio_data": FILE}, indent=2).encode(),
        json.dumps({"text": "Hello.", "audio_data": FILE, "sample_rate": 24000, "more": [{"audio": None}]}).encode(),
        f'{{ "audio_data" :\n"{FILE}" , "text":"Hel\\u006co."}} \n'.encode(),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 64, 1 << 16])
def test_an_answer_may_be_written_and_cut_in_any_way(data: bytes, piece: int) -> None:
    answer = read(data, piece=piece)
    assert answer.text == "Hello."
    np.testing.assert_array_equal(answer.audio, WAVE)


def test_fields_that_are_left_out_or_null_are_none() -> None:
    assert read(b'{"text": "Hi"}') == Answer(text="Hi")
    assert read(b'{"text": null, "audio_data": null}') == Answer()
    assert read(body(WAVE)).text is None


def test_words_about_audio_are_words() -> None:
    text = 'It said "audio_data": "AAAA" and {"audio_data":"'
    assert read(json.dumps({"text": text}).encode()) == Answer(text=text)
    assert read(body(WAVE, text=text)).text == text


def test_what_cannot_be_encoded_is_replaced() -> None:
    assert read(rb'{"text": "a\ud800b"}').text == "a?b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>secret</html>",
        b"[]",
        b'"secret"',
        b'{"text": 5}',
        b'{"audio_data": 5}',
        b'{"audio_data": ""}',
        b'{"audio_data": "!!!!"}',
        b'{"audio_data": "secret"}',
        b'{"audio_data": "AA==AAAA"}',
        b'{"audio_data": "' + FILE.encode()[:-1] + b'"}',
        b'{"audio_data": "' + FILE.encode()[:200],
        b'{"audio_data": "' + FILE.encode() + b'"',
        b'{"audio_data": "' + FILE.encode() + b'"} and more',
        b'{"audio_data": "' + FILE.encode() + b'", "audio_data": "' + FILE.encode() + b'"}',
        b'{"other": {"audio_data": "' + FILE.encode() + b'"}}',
        b'{"other\\"audio_data": "' + FILE.encode() + b'"}',
        b'{"audio\\u005fdata": "' + FILE.encode() + b'"}',
        b'{"text": "' + b"x" * MOST_JSON + b'"}',
        b'{"audio_data": "' + FILE.encode() + b'", "text": "' + b"x" * MOST_JSON + b'"}',
        b'{"text": ' + b"[" * 60_000,
        b'{"text": ' + b"9" * 60_000 + b"}",
        b'{"text": "\xff"}',
        body(npy(WAVE)[:-4]),
        body(b"GIF89a" + bytes(300)),
        body(np.array([np.nan], np.float32)),
    ],
)
@pytest.mark.parametrize("piece", [100, 1 << 16])
def test_what_cannot_be_read_is_an_engine_error_that_tells_nothing_of_it(data: bytes, piece: int) -> None:
    with pytest.raises(EngineError) as caught:
        read(data, piece=piece)
    assert caught.value.code == "container_failed"
    assert "secret" not in caught.value.message


def test_padding_ends_the_audio_wherever_the_pieces_are_cut() -> None:
    reader = AnswerReader(1000)
    reader.feed(b'{"audio_data": "' + base64.b64encode(npy(WAVE)[:130]))
    with pytest.raises(EngineError, match="goes on after its end"):
        reader.feed(base64.b64encode(npy(WAVE)[130:]))


@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), piece=st.integers(1, 300))
def test_mutated_answers_are_read_or_raise_an_engine_error(changes: list[tuple[int, int]], piece: int) -> None:
    data = bytearray(body(WAVE, text="Hello, \u00e9."))
    for position, value in changes:
        data[position] = value
    try:
        answer = read(bytes(data), piece=piece)
    except EngineError:
        return
    assert answer.audio is None or np.isfinite(answer.audio).all()


@given(st.binary(max_size=300))
def test_random_bytes_raise_an_engine_error_or_are_an_object(data: bytes) -> None:
    try:
        answer = read(data)
    except EngineError:
        return
    assert answer.audio is None
