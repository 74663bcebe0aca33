"""Marks on one turn's way from the user's last word to the reply's first sample, and the latency they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Part = Literal["endpointing", "queue", "transcribe", "think", "write", "voice", "encode", "model", "decode", "send"]
"""What the wait was spent on, in causal order.

endpointing: deciding that the turn is over, which a duplex engine does by itself; queue: waiting for the engine. Then a
turn-based engine's own: transcribe: the user's words; think: the reply's first token; write: its first clause; voice:
the clause's first audio. Or a duplex engine's, of one frame: encode, model, decode. Last, send: handing over the first
frame.
"""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLatency:
    """The wait, in ns, from the end of the user's speech to the reply's first sample sent.

    `parts` are in the order of `PARTS` and add up to `total` exactly.
    """

    total: int
    parts: tuple[tuple[Part, int], ...]

    def as_milliseconds(self) -> dict[str, float]:
        """`{"total_ms": ..., "endpointing_ms": ..., ...}`, rounded to 0.1 ms."""
        named = [("total", self.total), *self.parts]
        return {f"{name}_ms": round(value / 1e6, 1) for name, value in named}


@dataclass(slots=True)
class Timeline:
    """The marks of one turn. `start` is when the user's speech ended (monotonic ns)."""

    start: int
    _ends: dict[Part, int] = field(default_factory=dict)

    def mark(self, part: Part, at: int) -> None:
        """`part` ended at `at`; the first mark of a part counts."""
        self._ends.setdefault(part, at)

    def latency(self) -> TurnLatency:
        """The parts so far.

        Work done early, while the turn's end was still being decided, costs nothing: a part is by how much it made
        the first sample later than the parts before it had already made it.
        """
        reached = self.start
        parts: list[tuple[Part, int]] = []
        for part in PARTS:
            end = max(reached, self._ends.get(part, reached))
            parts.append((part, end - reached))
            reached = end
        return TurnLatency(total=reached - self.start, parts=tuple(parts))
