"""States, scores, and the nonces of those who sent them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_scores"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "states",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_states"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("states")
