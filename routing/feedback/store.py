"""Ratings in the database, without whose they are.

A row has the version, what was said, the turn's waits and the day. Its id is random. Waits are rounded to `ROUNDED_MS`:
to a tenth of a millisecond they would name the turn to whoever has a log or a recording of it. What is left can still
tell something: a comment is what its writer puts in it, and the database's own files (SQLite's write-ahead log until it
is written back, Postgres' transaction numbers) show their owner in which order rows came.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from routing.feedback.aggregates import LEAST, Rated
from routing.feedback.form import Feedback
from routing.feedback.tables import FeedbackRow
from routing.feedback.turns import RatedTurn
from routing.storage.database import Database
from streaming.errors import EngineError, PeerError

ROUNDED_MS = 10

MOST_A_DAY = 10_000
"""Ratings of one version that are kept of one day, so that nobody fills the disk: 15 MB where each has a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSummary:
    """Ratings of a version so far, and their mean, 1 to 5."""

    ratings: int
    mean: float


class FeedbackStore:
    """Keeps ratings. Every method raises EngineError where the database does not answer."""

    def __init__(self, database: Database, *, most_a_day: int = MOST_A_DAY) -> None:
        self._database = database
        self._most_a_day = most_a_day

    async def add(self, feedback: Feedback, turn: RatedTurn, *, day: date) -> None:
        """Keep a rating of `turn`. Raises PeerError (`too_many_ratings`) when the version has had enough for a day."""
        waits = {name: _rounded(wait) for name, wait in turn.latency.parts}
        row = FeedbackRow(
            id=secrets.token_hex(16),
            day=day,
            version=turn.version,
            rating=feedback.rating,
            tags=list(feedback.tags),
            comment=feedback.comment,
            total_ms=_rounded(turn.latency.total),
            parts_ms=waits,
        )

        same = (FeedbackRow.day == day, FeedbackRow.version == turn.version)
        today = select(func.count()).select_from(FeedbackRow).where(*same)

        def insert(session: Session) -> None:
            if session.execute(today).scalar_one() >= self._most_a_day:
                raise PeerError("Enough ratings have been given today.", code="too_many_ratings")
            session.add(row)

        try:
            await self._database.run(insert)
        except DBAPIError:
            # From None: a driver's message may repeat the row, and whoever logs it the comment.
            raise EngineError("The rating cannot be kept.", code="database_refused") from None

    async def summary(self) -> Mapping[str, FeedbackSummary]:
        """By version, of those with ratings enough that the mean is nobody's own (`aggregates.LEAST`)."""
        ratings = func.count()
        grouped = (
            select(FeedbackRow.version, ratings, func.avg(FeedbackRow.rating))
            .group_by(FeedbackRow.version)
            .having(ratings >= LEAST)
        )

        def read(session: Session) -> Mapping[str, FeedbackSummary]:
            return {
                version: FeedbackSummary(ratings=count, mean=round(float(mean), 2))
                for version, count, mean in session.execute(grouped)
            }

        return await self._database.read(read)

    async def since(self, day: date) -> tuple[Rated, ...]:
        """All ratings of that day and later, in the order of their random ids."""
        columns = (
            FeedbackRow.version,
            FeedbackRow.rating,
            FeedbackRow.tags,
            FeedbackRow.total_ms,
            FeedbackRow.comment,
        )
        chosen = select(*columns).where(FeedbackRow.day >= day).order_by(FeedbackRow.id)

        def read(session: Session) -> tuple[Rated, ...]:
            return tuple(
                Rated(version=version, rating=rating, tags=tuple(tags), total_ms=total_ms, comment=comment)
                for version, rating, tags, total_ms, comment in session.execute(chosen)
            )

        return await self._database.read(read)


def _rounded(nanoseconds: int) -> int:
    return round(nanoseconds / (ROUNDED_MS * 1_000_000)) * ROUNDED_MS
