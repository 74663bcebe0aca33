"""What people think of the models: ratings of turns, and blind duels, from the conversation to the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime

from routing.cached import Cached
from routing.duels.board import RatingBoard
from routing.duels.duels import Contender, Duel, Duels
from routing.duels.ratings import Rating
from routing.duels.store import VoteStore
from routing.duels.votes import Winner
from routing.feedback.form import Feedback
from routing.feedback.published import PublishedFeedback
from routing.feedback.store import FeedbackStore, FeedbackSummary
from routing.feedback.turns import RatedTurns
from routing.policy.contract import SessionNeeds
from routing.router import Router
from routing.storage.database import Database
from server.duel_door import DuelDoor
from server.gateway import Call
from streaming.errors import MuseError
from streaming.observations import TurnMeasured

SUMMARY_SECONDS = 30.0
"""How old the ratings' means may be."""


def _today() -> date:
    return datetime.now(UTC).date()


class Opinions:
    """Takes ratings and votes. `clock` gives monotonic ns, `today` the day in UTC.

    Hang `on_turn` on the gateway: from then on a turn can be rated, or counts for its duel. A duel's turn cannot be
    rated, for the number of a version's ratings is shown to everybody: it would tell who answered.
    """

    def __init__(
        self,
        database: Database,
        *,
        duels: Duels | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        today: Callable[[], date] = _today,
    ) -> None:
        self.duels = Duels() if duels is None else duels
        self.door = DuelDoor(self.duels, clock=clock)
        self._turns = RatedTurns()
        self._feedback = FeedbackStore(database)
        self._votes = VoteStore(database)
        self._board = RatingBoard(self._votes, clock=lambda: clock() / 1e9)
        self._summary: Cached[Mapping[str, FeedbackSummary]] = Cached(
            PublishedFeedback(database).summary,
            first={},
            seconds=SUMMARY_SECONDS,
            what="the ratings' means",
            clock=lambda: clock() / 1e9,
        )
        self._clock = clock
        self._today = today

    def on_turn(self, call: Call, measured: TurnMeasured) -> None:
        """A `server.gateway.OnTurn`."""
        if call.blind is not None:
            self.duels.answered(call.session_id)
        else:
            self._turns.add(measured.response_id, version=call.key, latency=measured.latency, now=self._clock())

    # --- ratings of turns

    async def rate(self, feedback: Feedback) -> None:
        """Keep a rating.

        Raises PeerError (`turn_not_found`, `already_rated`, `too_many_ratings`), EngineError where it cannot be kept.
        """
        turn = self._turns.take(feedback.response_id, now=self._clock())
        try:
            await self._feedback.add(feedback, turn, day=self._today())
        except BaseException:
            self._turns.give_back(feedback.response_id)
            raise

    async def summary(self) -> Mapping[str, FeedbackSummary]:
        """What ratings say of each version; the last known where the database is away."""
        return await self._summary.get()

    # --- duels

    async def open_duel(self, router: Router) -> Duel:
        """A duel between two that could answer now.

        Raises PeerError (`not_enough_models`), EngineBusyError when too many are open, EngineError where the votes so
        far cannot be read.
        """
        tallies = await self._votes.tallies()
        return self.duels.open(tuple(_contenders(router)), tallies, now=self._clock())

    async def vote(self, duel_id: str, winner: Winner) -> Duel:
        """Keep a vote.

        Raises PeerError (`duel_not_found`, `already_voted`, `not_answered`, `too_many_votes`), EngineError where it
        cannot be kept.
        """
        duel = self.duels.vote(duel_id, now=self._clock())
        first, second = (side.contender.version for side in duel.sides)
        try:
            await self._votes.add(first, second, winner, day=self._today())
        except BaseException:
            self.duels.give_back(duel)
            raise
        self._board.changed()
        return duel

    async def ratings(self) -> Mapping[str, Rating]:
        """The versions' ratings by the votes so far; the last known where the database is away."""
        return await self._board.ratings()


def _contenders(router: Router) -> Iterator[Contender]:
    """The versions that a session would get now if it asked for them."""
    for version in dict.fromkeys(worker.key for worker in router.fleet.workers() if worker.takes):
        try:
            choice = router.choose(SessionNeeds(model=version), session_id="")
        except MuseError:
            continue
        yield Contender(model=choice.model, version=choice.key)
