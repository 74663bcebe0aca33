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
    op.create_table(
        "scorers",
        sa.Column("validator", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("validator_version", sa.String(64), nullable=False),
        sa.Column("last_run_at", sa.Double(), nullable=False),
        sa.Column("submissions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("validator", name="pk_scorers"),
    )
    op.create_table(
        "scored_versions",
        sa.Column("version", sa.String(192), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("scored_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_scored_versions"),
    )
    op.create_table(
        "score_submissions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("validator", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("validator_version", sa.String(64), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("scores", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_score_submissions"),
    )
    op.create_index("ix_score_submissions_validator_received_at", "score_submissions", ["validator", "received_at"])
    op.create_index("ix_score_submissions_received_at", "score_submissions", ["received_at"])
    _create_scorings()
    op.create_table(
        "score_nonces",
        sa.Column("hotkey", sa.String(64), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("hotkey", "nonce", name="pk_score_nonces"),
    )
    op.create_index("ix_score_nonces_nonce", "score_nonces", ["nonce"])


def _create_scorings() -> None:
    op.create_table(
        "scorings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("submission", sa.String(40), nullable=False),
        sa.Column("version", sa.String(192), nullable=False),
        sa.Column("validator", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("failure", sa.String(200), nullable=True),
        sa.Column("miner", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_scorings"),
        sa.ForeignKeyConstraint(
            ["submission"], ["score_submissions.id"], name="fk_scorings_submission", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_scorings_version_at", "scorings", ["version", "at"])
    op.create_index("ix_scorings_submission", "scorings", ["submission"])


def downgrade() -> None:
    """Drop them."""
    for table in ("score_nonces", "scorings", "score_submissions", "scored_versions", "scorers", "states"):
        op.drop_table(table)
