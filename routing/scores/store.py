"""Scores as they are kept: every one for a while, and the scoreboard that comes of the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from routing.scores import queries
from routing.scores.aggregate import Standing, profile_in_force, stand
from routing.scores.queries import HistoryPoint, StoreRules
from routing.scores.standings import Scoreboard, ValidatorStanding
from routing.scores.submission import Submission
from routing.scores.tables import ScorerRow
from routing.storage.database import Database

_AT_ONCE = 4  # versions read and averaged in one transaction: of more, garbage collection makes a pause


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a standing was made from, beside the time."""

    revision: int
    profile: str
    validators: frozenset[str]


class ScoreStore:
    """All methods raise EngineError as `Database.run`."""

    def __init__(self, database: Database, rules: StoreRules | None = None) -> None:
        self._database = database
        self._rules = rules or StoreRules()
        self._known: dict[str, tuple[_Basis, Standing]] = {}
        self._in_force: tuple[str, frozenset[str]] | None = None
        self._alone = asyncio.Lock()

    async def add(self, submission: Submission, *, validator: str, now: float) -> str:
        """Keep a submission, whole, and return its id. Raises TooManyScoresError."""
        return await self._database.run(lambda session: queries.add(session, submission, validator, now, self._rules))

    async def scoreboard(self, *, now: float, validators: Collection[str] | None = None) -> Scoreboard:
        """How all versions stand at `now` (Unix time, s). `validators`: whose scores count; all of them by default.

        Only versions with new submissions, or of which something has lapsed, are read and averaged anew.
        """
        async with self._alone:
            since = now - self._rules.averages.oldest
            scorers, revisions = await self._database.read(lambda session: queries.overview(session, since))
            scorers = [scorer for scorer in scorers if validators is None or scorer.validator in validators]
            used = {scorer.validator: scorer.profile for scorer in scorers}
            profile = self._rules.profile or profile_in_force(used)
            heard = frozenset(scorer.validator for scorer in scorers)
            self._in_force = profile or "", heard
            if profile is None:
                return Scoreboard()
            bases = {version: _Basis(revision, profile, heard) for version, revision in sorted(revisions.items())}
            await self._bring_up_to_date(bases, now)
            return _scoreboard({version: self._known[version][1] for version in bases}, scorers)

    async def history(self, key: str, metric: str, *, since: float) -> tuple[HistoryPoint, ...]:
        """A version's values of one metric since a time (Unix time, s), oldest first; the newest where there are many.

        Of the validators and the scorer profile that the newest scoreboard rests on: others cannot be compared with it.
        Before the first one, those of everybody since that time. A failed scoring is a total of 0.
        """
        in_force = self._in_force
        return await self._database.read(
            lambda session: queries.history(session, key, metric, since=since, in_force=in_force, rules=self._rules)
        )

    async def _bring_up_to_date(self, bases: Mapping[str, _Basis], now: float) -> None:
        known = {version: self._known[version] for version in bases.keys() & self._known.keys()}
        stale = [version for version, basis in bases.items() if not _is_current(known.get(version), basis, now)]
        for first in range(0, len(stale), _AT_ONCE):
            changed = {version: bases[version] for version in stale[first : first + _AT_ONCE]}
            standings = await self._database.read(partial(self._stand, changed=changed, now=now))
            known.update({version: (basis, standings[version]) for version, basis in changed.items()})
        self._known = known

    def _stand(self, session: Session, *, changed: Mapping[str, _Basis], now: float) -> dict[str, Standing]:
        basis = next(iter(changed.values()))
        averages = self._rules.averages
        scorings = queries.newest_scorings(
            session,
            list(changed),
            profile=basis.profile,
            validators=basis.validators,
            since=now - averages.reach,
            series=self._rules.series,
        )
        return stand(scorings, now=now, rules=averages)


def _is_current(known: tuple[_Basis, Standing] | None, basis: _Basis, now: float) -> bool:
    return known is not None and known[0] == basis and now <= known[1].lapses_at


def _scoreboard(standings: Mapping[str, Standing], scorers: Sequence[ScorerRow]) -> Scoreboard:
    return Scoreboard(
        models={version: standing.scores for version, standing in standings.items() if standing.scores.metrics},
        validators=tuple(
            ValidatorStanding(
                hotkey=scorer.validator,
                version=scorer.validator_version,
                profile=scorer.profile,
                last_run_at=scorer.last_run_at,
                submissions=scorer.submissions,
                agreement=_agreement(standings, scorer.validator),
            )
            for scorer in scorers
        ),
    )


def _agreement(standings: Mapping[str, Standing], validator: str) -> float:
    judged = [standing.judged[validator] for standing in standings.values() if validator in standing.judged]
    seen = sum(count for count, _ in judged)
    return sum(kept for _, kept in judged) / seen if seen else 1.0
