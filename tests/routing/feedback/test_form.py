from __future__ import annotations

from typing import Any

import pytest

from routing.feedback.form import LONGEST_COMMENT, TAGS, clean, read_feedback
from streaming.errors import PeerError

GIVEN: dict[str, Any] = {"response_id": "resp_1", "rating": 4}


def test_a_rating_alone_is_enough() -> None:
    feedback = read_feedback(GIVEN)
    assert (feedback.response_id, feedback.rating, feedback.tags, feedback.comment) == ("resp_1", 4, (), None)


def test_tags_and_a_comment_are_optional() -> None:
    feedback = read_feedback({**GIVEN, "tags": ["slow", "fast"], "comment": "  It was\nfine. "})
    assert feedback.tags == ("fast", "slow")
    assert feedback.comment == "It was fine."


def test_a_tag_counts_once_and_the_order_is_ours() -> None:
    assert read_feedback({**GIVEN, "tags": [*reversed(TAGS), "slow", "slow"]}).tags == TAGS


@pytest.mark.parametrize("comment", [None, "", "   ", "\n\t\x00", "\u202e\u2069"])
def test_an_empty_comment_is_none(comment: str | None) -> None:
    assert read_feedback({**GIVEN, "comment": comment}).comment is None


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\x00b\x1b[31mc\x7fd\x9be", "ab[31mcde"),
        ("one\r\ntwo\u2028three\tfour", "one two three four"),
        ("half \ud800 of a pair", "half  of a pair"),
        ("turned \u202eback\u202c \u2066and\u2069 on", "turned back and on"),
        ("\x00 padded \x00", "padded"),
        (
            "naïve 日本語 👩\u200d🚀 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "naïve 日本語 👩\u200d🚀 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
    ],
)
def test_comments_are_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    cleaned.encode()  # any database takes it


def test_a_comment_is_measured_once_it_is_clean() -> None:
    longest = "é" * LONGEST_COMMENT
    assert read_feedback({**GIVEN, "comment": f"  {longest}\x00 "}).comment == longest
    with pytest.raises(PeerError) as raised:
        read_feedback({**GIVEN, "comment": f"{longest}x"})
    assert raised.value.param == "comment"
    assert str(LONGEST_COMMENT + 1) in raised.value.message
    assert "é" not in raised.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (None, None),
        ([], None),
        ("resp_1", None),
        ({}, "response_id"),
        ({"rating": 4}, "response_id"),
        ({"response_id": "resp_1"}, "rating"),
        ({**GIVEN, "response_id": 7}, "response_id"),
        ({**GIVEN, "response_id": None}, "response_id"),
        ({**GIVEN, "rating": 0}, "rating"),
        ({**GIVEN, "rating": 6}, "rating"),
        ({**GIVEN, "rating": -1}, "rating"),
        ({**GIVEN, "rating": 10**400}, "rating"),
        ({**GIVEN, "rating": 3.5}, "rating"),
        ({**GIVEN, "rating": "4"}, "rating"),
        ({**GIVEN, "rating": True}, "rating"),
        ({**GIVEN, "rating": None}, "rating"),
        ({**GIVEN, "tags": "slow"}, "tags"),
        ({**GIVEN, "tags": None}, "tags"),
        ({**GIVEN, "tags": ["slow", "boring"]}, "tags[1]"),
        ({**GIVEN, "tags": [7]}, "tags[0]"),
        ({**GIVEN, "comment": 7}, "comment"),
        ({**GIVEN, "comment": ["x"]}, "comment"),
        ({**GIVEN, "user": "me"}, "user"),
    ],
)
def test_what_cannot_be_taken_is_named(body: object, param: str | None) -> None:
    with pytest.raises(PeerError) as raised:
        read_feedback(body)
    assert raised.value.param == param
