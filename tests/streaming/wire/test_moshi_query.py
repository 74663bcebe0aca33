from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import PeerError
from streaming.wire.moshi_query import ChatQuery, read_query, write_query

STOCK = {  # as the official page asks
    "text_temperature": "0.7",
    "text_topk": "25",
    "audio_temperature": "0.8",
    "audio_topk": "250",
    "pad_mult": "0",
    "text_seed": "123456",
    "audio_seed": "654321",
    "repetition_penalty_context": "64",
    "repetition_penalty": "1.0",
}


def test_nothing_is_asked_for() -> None:
    assert read_query({}) == ChatQuery()


def test_what_the_stock_page_asks_for() -> None:
    assert read_query(STOCK) == ChatQuery(
        text_temperature=0.7,
        text_top_k=25,
        audio_temperature=0.8,
        audio_top_k=250,
        text_seed=123456,
        audio_seed=654321,
    )


def test_everything() -> None:
    query = {
        "text_temperature": "0",
        "text_topk": "0",
        "audio_temperature": "1e-1",
        "audio_topk": "2048",
        "text_prompt": "Be kind.",
        "voice_prompt": "NATF2.pt",
        "audio": "pcm",
        "codes": "1",
        "image_url": "ignored",
    }
    assert read_query(query) == ChatQuery(
        text_temperature=0.0,
        text_top_k=0,
        audio_temperature=0.1,
        audio_top_k=2048,
        text_prompt="Be kind.",
        voice_prompt="NATF2.pt",
        audio="pcm",
        codes=True,
    )


@pytest.mark.parametrize("name", ["text_temperature", "audio_temperature"])
@pytest.mark.parametrize("value", ["", "warm", "nan", "inf", "-0.1", "101", "1" * 5000])
def test_a_temperature_that_is_none(name: str, value: str) -> None:
    with pytest.raises(PeerError, match=f"{name}: expected a number from 0 to 100") as caught:
        read_query({name: value})
    assert (caught.value.code, caught.value.param) == ("invalid_value", name)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("seed", ["", "-1"])
def test_a_seed_that_nobody_chose(seed: str) -> None:
    assert read_query({"text_seed": seed, "audio_seed": seed}) == ChatQuery()


@pytest.mark.parametrize("name", ["text_topk", "audio_topk"])
@pytest.mark.parametrize("value", ["", "-1"])
def test_no_number_at_all(name: str, value: str) -> None:
    with pytest.raises(PeerError, match=f"{name}: expected an integer from 0 to"):
        read_query({name: value})


@pytest.mark.parametrize("name", ["text_topk", "audio_topk", "text_seed", "audio_seed"])
@pytest.mark.parametrize("value", ["1.5", "-2", "many", "²", "1_000", " 1", "9223372036854775808", "1" * 5000])
def test_a_count_that_is_none(name: str, value: str) -> None:
    with pytest.raises(PeerError, match=f"{name}: expected an integer from 0 to") as caught:
        read_query({name: value})
    assert caught.value.param == name


@pytest.mark.parametrize(("name", "value"), [("audio", "mp3"), ("audio", ""), ("codes", "yes")])
def test_a_choice_that_is_not_offered(name: str, value: str) -> None:
    with pytest.raises(PeerError, match=f"{name}: expected '.*' or '.*', got") as caught:
        read_query({name: value})
    assert caught.value.param == name


@given(
    st.builds(
        ChatQuery,
        text_temperature=st.none() | st.floats(0, 100),
        text_top_k=st.none() | st.integers(0, 1_000_000),
        audio_temperature=st.none() | st.floats(0, 100),
        audio_top_k=st.none() | st.integers(0, 1_000_000),
        text_seed=st.none() | st.integers(0, 2**63 - 1),
        audio_seed=st.none() | st.integers(0, 2**63 - 1),
        text_prompt=st.text(max_size=20),
        voice_prompt=st.text(max_size=20),
        audio=st.sampled_from(["opus", "pcm"]),
        codes=st.booleans(),
    )
)
def test_what_is_asked_is_what_is_read(query: ChatQuery) -> None:
    assert read_query(write_query(query)) == query


def test_the_defaults_are_not_written() -> None:
    assert write_query(ChatQuery()) == {}
