"""Votes of blind duels, as they are kept and counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Label = Literal["A", "B"]

LABELS: tuple[Label, ...] = get_args(Label)

Winner = Literal["A", "B", "tie", "neither"]
"""`tie`: both answered as well. `neither`: no answer was any good."""

WINNERS: tuple[Winner, ...] = get_args(Winner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many votes between two versions, A and B as the voters had them, went this way."""

    version_a: str
    version_b: str
    winner: Winner
    votes: int
