import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.embedded.spoken import SpokenText, without_title_stops


def clean(text: str, *, size: int = 2) -> str:
    spoken = SpokenText()
    return "".join(spoken.push(text[at : at + size]) for at in range(0, len(text), size)) + spoken.flush()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello there.", "Hello there."),
        ("  Hello   there. ", "Hello there. "),
        ("**Bold** and `code` # 1", "Bold and code 1"),
        ("Fine \U0001f600\U0001f3fd!", "Fine !"),
        ("You need:\n- milk\n- 2 eggs\n", "You need: milk. 2 eggs. "),
        ("1. Boil\n2) Cool\n10. Eat", "Boil. Cool. Eat"),
        ("It is 5", "It is 5"),
        ("5", "5"),
        ("5 apples", "5 apples"),
        ("2 - 1 is 1", "2 - 1 is 1"),
        ("One.\n\nTwo", "One. Two"),
        ("Isn't it 3.5?", "Isn't it 3.5?"),
        ("", ""),
    ],
)
def test_written_text_becomes_speakable(written: str, spoken: str) -> None:
    assert clean(written) == spoken


@given(st.text(max_size=200), st.integers(1, 20))
def test_how_the_text_is_cut_up_makes_no_difference(text: str, size: int) -> None:
    assert clean(text, size=size) == clean(text, size=max(len(text), 1))


@given(st.text(max_size=200))
def test_what_is_spoken_is_one_line_without_markdown(text: str) -> None:
    spoken = clean(text)
    assert not set(spoken) & set("*#`\n\r\t")
    assert "  " not in spoken


def test_a_title_keeps_its_word_and_loses_its_stop() -> None:
    assert without_title_stops("Ask Dr. Who, Mrs. Lee or St. Ives. Etc.") == "Ask Dr Who, Mrs Lee or St Ives. Etc."
