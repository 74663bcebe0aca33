"""`python -m docs.state_tables`: draw the tables of the documents from the code that they describe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from routing.policy import rollout
from streaming.barge_in import BARGE_IN, Effect
from streaming.endpointing import ENDPOINTING, Act
from streaming.utterances import UTTERANCES, Bound

State = TypeVar("State", bound=Enum | str)
Cause = TypeVar("Cause", bound=Enum)
Told = TypeVar("Told", bound=Enum)

DOCS = Path(__file__).parent

PAGES = ("architecture.md", "routing.md")


def render(page: str) -> str:
    """The page with its tables drawn anew, each between its two markers. Raises ValueError where there are none."""
    tables = {
        "endpointing": _table(ENDPOINTING, silent=Act.NOTHING),
        "barge-in": _table(BARGE_IN, silent=Effect.NONE),
        "utterances": _table(UTTERANCES, silent=Bound.NONE),
        "rollout": _table(rollout.ROLLOUT, silent=rollout.Act.NOTHING),
    }
    present = [name for name in tables if f"<!-- {name} -->" in page]
    if not present:
        raise ValueError(f"expected markers of at least one of: {', '.join(tables)}")
    for name in present:
        page = _between(page, name, tables[name])
    return page


def _table(transitions: Mapping[tuple[State, Cause], tuple[State, Told]], *, silent: Told) -> str:
    states = list(dict.fromkeys(state for state, _ in transitions))
    signals = list(dict.fromkeys(signal for _, signal in transitions))
    lines = ["| | " + " | ".join(_words(signal) for signal in signals) + " |", "|---" * (len(signals) + 1) + "|"]
    for state in states:
        cells = []
        for signal in signals:
            after, act = transitions[state, signal]
            told = "" if act is silent else f" ({_words(act)})"
            cells.append(f"{'·' if after == state else _state(after)}{told}")
        lines.append(f"| **{_state(state)}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _state(state: Enum | str) -> str:
    return state.name if isinstance(state, Enum) else state.upper()


def _words(name: Enum) -> str:
    return name.name.lower().replace("_", " ")


def _between(page: str, name: str, text: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    drawn, count = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", page)
    if count != 1:
        raise ValueError(f"expected one pair of markers <!-- {name} -->, found {count}")
    return drawn


if __name__ == "__main__":
    for name in PAGES:
        path = DOCS / name
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
