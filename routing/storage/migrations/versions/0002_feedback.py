"""Ratings of turns, and votes of duels. SQLite keeps their rows in the order of their random ids: it has no other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_feedback"
down_revision = "0001_scores"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("comment", sa.String(1000), nullable=True),
        sa.Column("total_ms", sa.Integer(), nullable=False),
        sa.Column("parts_ms", sa.JSON(), nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="ck_feedback_rating"),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_feedback_day_version", "feedback", ["day", "version"])
    op.create_table(
        "votes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version_a", sa.String(), nullable=False),
        sa.Column("version_b", sa.String(), nullable=False),
        sa.Column("winner", sa.String(7), nullable=False),
        sa.CheckConstraint("winner IN ('A', 'B', 'tie', 'neither')", name="ck_votes_winner"),
        sa.CheckConstraint("version_a <> version_b", name="ck_votes_versions"),
        sa.PrimaryKeyConstraint("id", name="pk_votes"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_votes_day_version_a_version_b", "votes", ["day", "version_a", "version_b"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("votes")
    op.drop_table("feedback")
