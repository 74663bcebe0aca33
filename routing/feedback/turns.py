"""Turns that may still be rated: what was measured of them, held in memory for as long as somebody may rate them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from streaming.core import SECOND
from streaming.errors import PeerError
from streaming.timeline import TurnLatency

KEPT = 3600 * SECOND
"""How long a turn may be rated, ns."""

MOST_TURNS = 20_000
"""Turns that are held; the oldest makes room. An hour of a hundred conversations with three turns a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedTurn:
    """What is known of a turn. `version`: who answered, as in `routing.leaderboard.model_key`."""

    version: str
    latency: TurnLatency


@dataclass(slots=True)
class _Held:
    turn: RatedTurn
    at: int
    rated: bool = False


class RatedTurns:
    """Response id to turn, for an hour and one rating. Nothing of it is ever stored. Times are monotonic ns."""

    def __init__(self, *, most: int = MOST_TURNS, kept: int = KEPT) -> None:
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._most = most
        self._kept = kept

    def add(self, response_id: str, *, version: str, latency: TurnLatency, now: int) -> None:
        """A turn was measured; from now on it may be rated."""
        self._forget(now)
        self._held[response_id] = _Held(RatedTurn(version=version, latency=latency), now)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def take(self, response_id: str, *, now: int) -> RatedTurn:
        """The turn, which counts as rated from now on.

        Raises PeerError: `turn_not_found` for one that is not known or is too old, `already_rated` for a second rating.
        """
        self._forget(now)
        held = self._held.get(response_id)
        if held is None:
            message = "There is no such turn, or it is too old: a turn can be rated for an hour."
            raise PeerError(message, code="turn_not_found", param="response_id")
        if held.rated:
            raise PeerError("This turn has been rated.", code="already_rated", param="response_id")
        held.rated = True
        return held.turn

    def give_back(self, response_id: str) -> None:
        """The rating that `take` was for could not be kept: the turn may be rated again."""
        if (held := self._held.get(response_id)) is not None:
            held.rated = False

    def __len__(self) -> int:
        return len(self._held)

    def _forget(self, now: int) -> None:
        """Drop what is too old. The oldest are first: turns come in order of time."""
        while self._held and now - next(iter(self._held.values())).at >= self._kept:
            self._held.popitem(last=False)
