"""Ratings and votes are counted out of an index: their rows, comments and all, would be read every half minute."""

from __future__ import annotations

from alembic import op

revision = "0003_opinion_indexes"
down_revision = "0002_feedback"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_index("ix_feedback_version_rating", "feedback", ["version", "rating"])
    op.create_index("ix_votes_version_a_version_b_winner", "votes", ["version_a", "version_b", "winner"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_votes_version_a_version_b_winner", "votes")
    op.drop_index("ix_feedback_version_rating", "feedback")
