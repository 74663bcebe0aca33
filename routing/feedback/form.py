"""What a user may say of a turn, and what of it is fit to be kept."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from streaming.errors import PeerError
from streaming.schema import Within, from_json

Tag = Literal[
    "fast",
    "slow",
    "interrupted_me",
    "did_not_stop",
    "misheard",
    "wrong",
    "helpful",
    "pleasant_voice",
    "unpleasant_voice",
    "audio_glitch",
]

TAGS: tuple[Tag, ...] = get_args(Tag)

LONGEST_COMMENT = 1000
"""Characters, once it has been cleaned."""

_BIDIRECTIONAL = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Marks that reorder what is shown around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A rating of one turn, 1 (bad) to 5 (good)."""

    response_id: str
    rating: Annotated[int, Within(1, 5)]
    tags: tuple[Tag, ...] = ()
    comment: str | None = None


def read_feedback(body: object) -> Feedback:
    """The feedback in a request's JSON: each tag once, the comment cleaned, None where nothing is left of it.

    Raises PeerError naming the field that cannot be taken.
    """
    given = from_json(Feedback, body, path="")
    comment = clean(given.comment or "")
    if len(comment) > LONGEST_COMMENT:
        message = f"comment: expected at most {LONGEST_COMMENT} characters, got {len(comment)}"
        raise PeerError(message, code="invalid_value", param="comment")
    tags = tuple(tag for tag in TAGS if tag in given.tags)
    return replace(given, tags=tags, comment=comment or None)


def clean(text: str) -> str:
    """`text` on one line, without control characters, halves of surrogates and marks that turn its direction."""
    spaced = " ".join(text.split())
    kept = (char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs") and char not in _BIDIRECTIONAL)
    return "".join(kept).strip()
