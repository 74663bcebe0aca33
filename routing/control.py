"""What goes on beside the conversations: the leaderboard is read, the models ranked, rollouts moved, workers asked for.

Nothing here is in a conversation's way. What cannot be read is done without: the last good goes on to hold, and what
is wrong is logged once and told in the metrics.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from routing.fleet.contract import Deployment
from routing.leaderboard import Snapshot, SourceState
from routing.policy.contract import LiveStats, Rollout
from routing.policy.deployments import wanted
from routing.policy.rollout import step
from routing.router import Router
from routing.scores.standings import Scoreboard
from routing.source import SnapshotSource
from routing.troubles import Troubles
from streaming.errors import EngineError, PeerError
from streaming.schema import decode, to_json

_log = logging.getLogger(__name__)

STATE = "rollout"
"""The name under which gateways share where a rollout stands."""

SCORES_SECONDS = 30.0
"""Between readings of the scores."""

FIRST_LOOK_SECONDS = 2.0
"""How long a start waits for the leaderboard; it is read on where it takes longer."""


class Scores(Protocol):
    """`routing.scores.store.ScoreStore`."""

    async def scoreboard(self, *, now: float, validators: Collection[str] | None = None) -> Scoreboard:
        """What these validators measured, as of `now` (Unix time, s). Raises EngineError."""


class States(Protocol):
    """`routing.storage.state.StateStore`."""

    async def load(self, name: str) -> tuple[dict[str, Any], int] | None:
        """The state and its revision. Raises EngineError."""

    async def save(self, name: str, value: dict[str, Any], *, revision: int) -> bool:
        """Replace that revision; False where another did first. Raises EngineError."""


class Control:
    """The loops beside the conversations. `now` gives Unix time (s), `interval` is in seconds.

    `heard` says whose scores count, by the leaderboard.
    Each of `look`, `decide` and `share` may be called at any time, and does what is due.
    """

    def __init__(
        self,
        router: Router,
        *,
        source: SnapshotSource,
        scores: Scores,
        states: States,
        heard: Callable[[Snapshot | None], Collection[str]],
        most_workers: int,
        interval: float,
        now: Callable[[], float],
    ) -> None:
        self.leaderboard = SourceState(snapshot=None, age=None, stale=False, problem="not read yet")
        self.troubles = Troubles()
        self.rollbacks = 0
        self._router = router
        self._source = source
        self._scores = scores
        self._states = states
        self._heard = heard
        self._most_workers = most_workers
        self._interval = interval
        self._now = now
        self._scoreboard = Scoreboard()
        self._scored_at: float | None = None
        self._wanted: tuple[Deployment, ...] = ()
        self._shared = router.rollout
        self._revision = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # --- life

    async def start(self) -> None:
        """Decide by what is found at once, and go on from there."""
        await self._try("sharing", self.share)
        first = asyncio.create_task(self._try("looking", self.look))
        await asyncio.wait({first}, timeout=FIRST_LOOK_SECONDS)
        await self._try("deciding", self.decide)
        self._tasks = [
            asyncio.create_task(self._repeat("looking", self.look, after=first)),
            asyncio.create_task(self._repeat("deciding", self.decide)),
            asyncio.create_task(self._repeat("sharing", self.share)),
        ]

    async def close(self) -> None:
        """Stop, and release the source; does nothing when that is done."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._source.close()

    # --- what is done

    async def look(self) -> None:
        """Read the leaderboard and the scores where that is due, and rank by them. It may take as long as they do."""
        now = self._now()
        self.leaderboard = await self._source.refresh(now=now)
        self.troubles.note("the leaderboard", self.leaderboard.problem)
        if self._scored_at is None or not 0 <= now - self._scored_at < SCORES_SECONDS:
            try:
                heard = self._heard(self.leaderboard.snapshot)
                self._scoreboard = await self._scores.scoreboard(now=now, validators=heard)
            except EngineError as error:
                self.troubles.note("the scores", error.message)
            else:
                self.troubles.note("the scores", None)
                self._scored_at = now
        self._router.inform(self.leaderboard.snapshot, self._scoreboard)

    async def decide(self) -> None:
        """Move the rollout, and ask for the workers that it needs."""
        router = self._router
        ranking, workers, before = router.ranking(), router.fleet.workers(), router.rollout
        after = step(
            before, ranking=ranking, workers=workers, live=router.trials(), rules=router.rules, now=self._now()
        )
        if after != before:
            self.rollbacks += len(_barred(after) - _barred(before))
            self._move(after)
        deployments = wanted(
            ranking=ranking,
            rollout=after,
            workers=workers,
            rules=router.rules,
            most_workers=self._most_workers,
            previous=self._wanted,
        )
        if deployments != self._wanted:
            await router.fleet.want(deployments)
            self._wanted = deployments

    async def share(self) -> None:
        """Keep the rollout where other gateways, and this one after a restart, find it; go by theirs where newer."""
        try:
            if not await self._adopt() and _gist(self._router.rollout) != _gist(self._shared):
                await self._save(self._router.rollout)
        except EngineError as error:
            self.troubles.note("the rollout's state", error.message)
        else:
            self.troubles.note("the rollout's state", None)

    # --- parts

    async def _adopt(self) -> bool:
        stored = await self._states.load(STATE)
        if stored is None:
            self._revision, self._shared = 0, Rollout()  # nobody has kept it, or it was taken away
        if stored is None or stored[1] == self._revision:
            return False
        value, self._revision = stored
        theirs = read_rollout(value)
        mine = self._router.rollout
        # Turns are counted by each process for itself, from the beginning of a step.
        counted = self._router.trials().get(theirs.candidate or "", LiveStats()).total_turns
        turns = mine.turns_at if _step_of(theirs) == _step_of(mine) else counted
        absent = mine.absent_since if theirs.incumbent == mine.incumbent else None
        self._shared = replace(theirs, turns_at=turns, absent_since=absent)
        self._move(self._shared)
        return True

    def _move(self, after: Rollout) -> None:
        before, self._router.rollout = self._router.rollout, after
        for key in _barred(before) - _barred(after):
            self._router.forget(key)  # it was punished for that, and is tried anew
        _tell(before, after)

    async def _save(self, rollout: Rollout) -> None:
        if await self._states.save(STATE, to_json(rollout), revision=self._revision):
            self._shared = rollout
            self._revision += 1

    async def _repeat(
        self, what: str, work: Callable[[], Awaitable[None]], *, after: asyncio.Task[None] | None = None
    ) -> None:
        if after is not None:
            await after
        while True:
            await asyncio.sleep(self._interval)
            await self._try(what, work)

    async def _try(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """A defect must not end the loop, nor fill the log."""
        problem = None
        try:
            await work()
        except Exception as error:
            problem = f"a defect: {type(error).__name__}"
            if self.troubles.open.get(what) != problem:
                _log.exception("a defect while %s", what)
        self.troubles.note(what, problem)


def _gist(rollout: Rollout) -> Rollout:
    """What gateways must agree on: not what each has counted and sees by itself, nor what it says of that."""
    return replace(rollout, turns_at=0, absent_since=None, reason=Rollout().reason)


def _barred(rollout: Rollout) -> set[str]:
    return {bar.key for bar in rollout.barred}


def _step_of(rollout: Rollout) -> tuple[object, ...]:
    return rollout.stage, rollout.incumbent, rollout.candidate, rollout.share, rollout.since


def _tell(before: Rollout, after: Rollout) -> None:
    if _step_of(before) != _step_of(after):
        fields = {
            "stage": after.stage,
            "incumbent": after.incumbent,
            "candidate": after.candidate,
            "share": after.share,
            "reason": after.reason.text,
        }
        _log.info("rollout", extra={"fields": fields})


def read_rollout(value: Mapping[str, Any]) -> Rollout:
    """The rollout that was shared as this. Raises EngineError where it is none."""
    try:
        rollout: Rollout = decode(Rollout, value, path="rollout", strict=False)
    except PeerError as error:
        raise EngineError(f"what is stored cannot be read: {error.message}") from None
    return rollout
