"""The tables of the scores."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from routing.storage.base import Base

HOTKEY = String(64)
VERSION = String(192)
NAME = String(64)

_Counted = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up what is an INTEGER, and nothing else


class ScorerRow(Base):
    """A validator that has delivered scores, and its newest submission's particulars."""

    __tablename__ = "scorers"

    validator: Mapped[str] = mapped_column(HOTKEY, primary_key=True)
    profile: Mapped[str] = mapped_column(NAME)
    validator_version: Mapped[str] = mapped_column(NAME)
    last_run_at: Mapped[float] = mapped_column(Double)
    submissions: Mapped[int]


class ScoredVersionRow(Base):
    """A version that has scores. `revision` is another after each submission that has it."""

    __tablename__ = "scored_versions"

    version: Mapped[str] = mapped_column(VERSION, primary_key=True)
    revision: Mapped[int]
    scored_at: Mapped[float] = mapped_column(Double)


class SubmissionRow(Base):
    """One accepted submission."""

    __tablename__ = "score_submissions"
    __table_args__ = (Index(None, "validator", "received_at"), Index(None, "received_at"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    validator: Mapped[str] = mapped_column(HOTKEY)
    profile: Mapped[str] = mapped_column(NAME)
    validator_version: Mapped[str] = mapped_column(NAME)
    block: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[float] = mapped_column(Double)
    scores: Mapped[int]


class ScoringRow(Base):
    """One version's scores in a submission. `failure` says why there are none. Some columns repeat the submission's,
    so that a version's history is read from one index.
    """

    __tablename__ = "scorings"
    __table_args__ = (Index(None, "version", "at"), Index(None, "submission"))

    id: Mapped[int] = mapped_column(_Counted, primary_key=True)
    submission: Mapped[str] = mapped_column(ForeignKey("score_submissions.id", ondelete="CASCADE"))
    version: Mapped[str] = mapped_column(VERSION)
    validator: Mapped[str] = mapped_column(HOTKEY)
    profile: Mapped[str] = mapped_column(NAME)
    block: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[float] = mapped_column(Double)
    metrics: Mapped[dict[str, float]] = mapped_column(JSON)
    failure: Mapped[str | None] = mapped_column(String(200))
    miner: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class NonceRow(Base):
    """A nonce (Unix time, ns) that a hotkey has used; kept until requests so old are refused for their age."""

    __tablename__ = "score_nonces"
    __table_args__ = (Index(None, "nonce"),)

    hotkey: Mapped[str] = mapped_column(HOTKEY, primary_key=True)
    nonce: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
