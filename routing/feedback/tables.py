"""The table of ratings. It has no column for who rated, which conversation it was, or when on that day."""

from __future__ import annotations

from datetime import date

from sqlalchemy import JSON, CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from routing.storage.base import Base


class FeedbackRow(Base):
    """One rating of one turn.

    `id` is random, and SQLite keeps the rows in its order: none tells which rating came first. `day` is UTC's. Waits
    are in ms, rounded (see `routing.feedback.store`).
    """

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        Index(None, "day", "version"),
        Index(None, "version", "rating"),
        {"sqlite_with_rowid": False},
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[date]
    version: Mapped[str]
    rating: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(JSON)
    comment: Mapped[str | None] = mapped_column(String(1000))
    total_ms: Mapped[int]
    parts_ms: Mapped[dict[str, int]] = mapped_column(JSON)
