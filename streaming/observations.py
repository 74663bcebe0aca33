"""What a session tells its operator: measurements, and that it is over. None of it goes to the client as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streaming.timeline import TurnLatency


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMeasured:
    """A reply's first frame was sent; `latency` is the whole wait and its parts."""

    response_id: str
    latency: TurnLatency


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeInMeasured:
    """The user spoke over a reply. Monotonic ns of the three moments; those that did not come are None.

    `onset`: voice detected. `ducked`: the first softened frame was sent. `decided`: taken for an interruption, or
    dismissed as a cough or an "mm-hmm". `last_frame`: the reply's last frame was sent.
    """

    response_id: str
    outcome: Literal["interrupted", "dismissed"]
    onset: int
    ducked: int | None
    decided: int
    last_frame: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Underrun:
    """The client's playout ran dry in mid-reply, for `gap` ns by the pace."""

    response_id: str
    gap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationEnded:
    """A provisional reply was confirmed, or thrown away because the user went on."""

    response_id: str
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession:
    """Close the connection with this WebSocket code; `reason` is safe to show."""

    code: int
    reason: str


Observation = TurnMeasured | BargeInMeasured | Underrun | SpeculationEnded
