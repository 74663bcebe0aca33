import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.embedded.clauses import Clause, ClauseCutter, ClauseOptions

WORDS = st.lists(
    st.sampled_from(["Hello", "there,", "friend.", "3.5", "Dr.", "Smith", "why?", '"Yes!"', "a.m.", "-", "é", "\n"]),
    max_size=80,
).map(" ".join)


def cut(text: str, *, size: int = 3) -> list[str]:
    cutter = ClauseCutter()
    clauses = [clause for at in range(0, len(text), size) for clause in cutter.push(text[at : at + size])]
    return [clause.text for clause in [*clauses, *cutter.flush()]]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Yes. It is.", ["Yes. ", "It is."]),
        ("Well, I am not sure, but I think so.", ["Well, I am not sure, ", "but I think so."]),
        ("The moon, our neighbour, is far.", ["The moon, ", "our neighbour, is far."]),
        ("It costs 3.5 dollars. Or 1,000.", ["It costs 3.5 dollars. ", "Or 1,000."]),
        ("Ask Dr. Smith. He knows.", ["Ask Dr. Smith. ", "He knows."]),
        ("J. R. Tolkien wrote it. Really.", ["J. R. Tolkien wrote it. ", "Really."]),
        ('He said "no." Then he left.', ['He said "no." ', "Then he left."]),
        ("Wait... what?! Oh.", ["Wait... ", "what?! ", "Oh."]),
        ("At 8 a.m. we go.", ["At 8 a.m. we go."]),
        ("So did I. And you?", ["So did I. ", "And you?"]),
        ("No end", ["No end"]),
        ("", []),
    ],
)
def test_clauses_end_where_a_speaker_pauses(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


def test_the_first_clause_comes_as_soon_as_it_is_known_to_be_complete() -> None:
    cutter = ClauseCutter()
    assert cutter.push("Of course") == []
    assert cutter.push(",") == []
    assert cutter.push(" I") == [Clause("Of course, ", 11)]


def test_text_without_punctuation_is_cut_between_words() -> None:
    text = "word " * 60
    assert [len(part.split()) for part in cut(text)] == [7, 24, 24, 5]


@given(WORDS | st.text(max_size=300), st.integers(1, 40))
def test_clauses_join_to_the_text_and_know_where_they_end(text: str, size: int) -> None:
    cutter = ClauseCutter(ClauseOptions(first_most=6, later_most=10))
    clauses = [clause for at in range(0, len(text), size) for clause in cutter.push(text[at : at + size])]
    clauses += cutter.flush()
    assert "".join(clause.text for clause in clauses) == text
    end = 0
    for clause in clauses:
        end += len(clause.text)
        assert clause.text
        assert clause.end == end


@given(WORDS, st.integers(1, 40))
def test_no_clause_is_longer_than_the_bound(text: str, size: int) -> None:
    cutter = ClauseCutter(ClauseOptions(first_most=6, later_most=10))
    clauses = [clause for at in range(0, len(text), size) for clause in cutter.push(text[at : at + size])]
    assert all(len(clause.text.split()) <= 10 for clause in [*clauses, *cutter.flush()])
