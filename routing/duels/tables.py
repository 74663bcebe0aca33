"""The table of votes: who met whom, how it went, and the day. Not who voted, nor in which duel."""

from __future__ import annotations

from datetime import date

from sqlalchemy import CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from routing.storage.base import Base


class VoteRow(Base):
    """One vote.

    `id` is random, and SQLite keeps the rows in its order. `day` is UTC's. `winner`: see `votes.Winner`.
    """

    __tablename__ = "votes"
    __table_args__ = (
        CheckConstraint("winner IN ('A', 'B', 'tie', 'neither')", name="winner"),
        CheckConstraint("version_a <> version_b", name="versions"),
        Index(None, "day", "version_a", "version_b"),
        Index(None, "version_a", "version_b", "winner"),
        {"sqlite_with_rowid": False},
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[date]
    version_a: Mapped[str]
    version_b: Mapped[str]
    winner: Mapped[str] = mapped_column(String(7))
