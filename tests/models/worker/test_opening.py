from dataclasses import replace

import pytest

from models.worker.batch import SlotOptions
from models.worker.opening import Opening
from streaming.errors import PeerError


def test_the_address_of_moshis_own_page() -> None:
    opening = Opening.parse(
        "text_temperature=0.6&text_topk=20&audio_temperature=0.9&audio_topk=200&pad_mult=0&text_seed=17&audio_seed=18"
        "&repetition_penalty_context=64&repetition_penalty=1.0&text_prompt=You%20are%20calm&voice_prompt=NATF2.pt"
    )
    options = opening.options
    assert (opening.audio, opening.codes) == ("opus", False)
    assert (options.text_temperature, options.text_top_k) == (0.6, 20)
    assert (options.audio_temperature, options.audio_top_k) == (0.9, 200)
    assert (options.seed, options.instructions, options.voice) == (17, "You are calm", "NATF2.pt")


def test_what_the_gateway_asks_for() -> None:
    opening = Opening.parse("audio=pcm&codes=1")
    assert (opening.audio, opening.codes) == ("pcm", True)
    assert replace(opening.options, seed=0) == SlotOptions()  # the model's own


def test_the_audios_seed_stands_in_for_the_texts() -> None:
    assert Opening.parse("audio_seed=5&text_seed=-1").options.seed == 5
    assert Opening.parse("audio_seed=5&text_seed=0").options.seed == 0


@pytest.mark.parametrize("query", ["", "text_seed=-1&audio_seed=-1", "text_seed="])
def test_a_seed_that_nobody_chose_is_drawn(query: str) -> None:
    assert len({Opening.parse(query).options.seed for _ in range(8)}) > 1


@pytest.mark.parametrize("query", ["audio=mp3", "text_temperature=nan", "audio_topk=-1", "text_seed=" + "9" * 5000])
def test_a_value_that_cannot_be_taken_is_named(query: str) -> None:
    with pytest.raises(PeerError) as refused:
        Opening.parse(query)
    assert (refused.value.code, refused.value.param) == ("invalid_value", query.partition("=")[0])
