"""Votes in the database, without whose they are."""

from __future__ import annotations

import secrets
from datetime import date
from typing import cast

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from routing.duels.tables import VoteRow
from routing.duels.votes import Tally, Winner
from routing.storage.database import Database
from streaming.errors import PeerError

MOST_A_DAY = 10_000
"""Votes between two versions that are kept of one day: nobody fills the disk, or decides alone."""


class VoteStore:
    """Keeps votes. Every method raises EngineError where the database does not answer."""

    def __init__(self, database: Database, *, most_a_day: int = MOST_A_DAY) -> None:
        self._database = database
        self._most_a_day = most_a_day

    async def add(self, version_a: str, version_b: str, winner: Winner, *, day: date) -> None:
        """Keep a vote. Raises PeerError (`too_many_votes`) when the two have had enough for a day."""
        row = VoteRow(id=secrets.token_hex(16), day=day, version_a=version_a, version_b=version_b, winner=winner)
        pair = or_(
            (VoteRow.version_a == version_a) & (VoteRow.version_b == version_b),
            (VoteRow.version_a == version_b) & (VoteRow.version_b == version_a),
        )
        today = select(func.count()).select_from(VoteRow).where(VoteRow.day == day, pair)

        def insert(session: Session) -> None:
            if session.execute(today).scalar_one() >= self._most_a_day:
                raise PeerError("Enough votes have been given today.", code="too_many_votes")
            session.add(row)

        await self._database.run(insert)

    async def tallies(self) -> tuple[Tally, ...]:
        """All votes, counted by their versions and how they went."""
        columns = (VoteRow.version_a, VoteRow.version_b, VoteRow.winner)
        grouped = select(*columns, func.count()).group_by(*columns).order_by(*columns)

        def read(session: Session) -> tuple[Tally, ...]:
            return tuple(
                Tally(version_a=version_a, version_b=version_b, winner=cast(Winner, winner), votes=votes)
                for version_a, version_b, winner, votes in session.execute(grouped)
            )

        return await self._database.read(read)
