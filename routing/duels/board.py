"""The ratings as they stand, for whoever asks, however often."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from routing.cached import Cached
from routing.duels.ratings import Rating, ratings
from routing.duels.store import VoteStore

_log = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
"""How old the ratings may be where other processes take votes too. A vote taken here counts at once."""


class RatingBoard:
    """Ratings of all votes, computed on a thread. `clock` is monotonic, in seconds."""

    def __init__(self, store: VoteStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._missing = False
        self._ratings: Cached[Mapping[str, Rating]] = Cached(
            self._compute, first={}, seconds=FRESH_SECONDS, what="ratings", clock=clock
        )

    async def ratings(self) -> Mapping[str, Rating]:
        """By version, of those with votes enough; none where statsmodels is not installed."""
        return await self._ratings.get()

    def changed(self) -> None:
        """A vote was kept."""
        self._ratings.expire()

    async def _compute(self) -> Mapping[str, Rating]:
        tallies = await self._store.tallies()
        try:
            return await asyncio.to_thread(ratings, tallies)
        except ModuleNotFoundError as error:
            if not self._missing:
                _log.warning("votes are kept but nobody is rated: %s is not installed", error.name)
            self._missing = True
            return {}
