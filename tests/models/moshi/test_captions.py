"""Words from tokens, with characters that come as bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.moshi.captions import Captions, pieces
from models.moshi.files import load_tokenizer, read_checkpoint


@pytest.fixture(scope="module")
def tokenizer(tiny_moshi: Path) -> object:
    return load_tokenizer(read_checkpoint(tiny_moshi))


def spoken(tokenizer: object, tokens: list[int]) -> str:
    captions = Captions(pieces(tokenizer, frozenset((0, 3))))
    return "".join(captions.push(token) for token in tokens)


@pytest.mark.parametrize("text", ["Hello, how are you today?", "naïve café 🙂 日本", "One two"])
def test_tokens_join_on_to_the_text_that_they_were_made_of(tokenizer: object, text: str) -> None:
    tokens = tokenizer.EncodeAsIds(text)  # type: ignore[attr-defined]
    padded = [token for pair in zip(tokens, [3] * len(tokens), strict=True) for token in pair]
    assert spoken(tokenizer, tokens) == " " + text
    assert spoken(tokenizer, padded) == " " + text


@pytest.mark.parametrize("token", [0, 1, 2, 3, -2, -1, 512, 10**6])
def test_padding_control_and_what_is_no_token_say_nothing(tokenizer: object, token: int) -> None:
    assert spoken(tokenizer, [token]) == ""


def test_a_character_that_is_cut_short_becomes_one_mark(tokenizer: object) -> None:
    word = tokenizer.EncodeAsIds("you")  # type: ignore[attr-defined]
    smile = [token for token in tokenizer.EncodeAsIds("🙂") if tokenizer.IsByte(token)]  # type: ignore[attr-defined]
    assert spoken(tokenizer, [*smile[:2], *word]) == "� you"
