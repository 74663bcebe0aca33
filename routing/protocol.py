"""What the router tells over HTTP: the JSON of docs/protocols/leaderboard.md, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from routing.duels.ratings import Rating
from routing.feedback.store import FeedbackSummary
from routing.policy.badges import Badge
from routing.policy.contract import Mode, Reason, Stage
from routing.scores.standings import MetricStanding, MinerStanding

Status = Literal["serving", "candidate", "ready", "loading", "waiting", "failed", "barred"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """What a metric is."""

    id: str
    title: str
    unit: str
    better: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """See `LiveStats`."""

    turns: int
    gap_p50_ms: float | None
    gap_p95_ms: float | None
    frames: int
    misses: float | None
    sessions: int
    errors: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One version of a model."""

    id: str
    version: str
    rank: int | None
    uid: int | None
    hotkey: str | None
    block: int | None
    incentive: float | None
    emission: float | None
    status: Status
    status_reason: str
    mode: Mode | None
    languages: tuple[str, ...] | None
    share: float
    metrics: Mapping[str, MetricStanding]
    failing: bool
    failure: str | None
    live: LiveView | None
    rating: Rating | None
    feedback: FeedbackSummary | None
    miner: MinerStanding
    badges: tuple[Badge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedView:
    """What is on the chain, and not on the leaderboard."""

    uid: int | None
    hotkey: str | None
    model: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorView:
    """A validator by the chain, by the scores that it delivered, or by both."""

    hotkey: str
    uid: int | None
    stake: float | None
    last_update: int | None
    last_run_at: float | None
    version: str | None
    profile: str | None
    submissions: int
    agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """See `Rollout`."""

    stage: Stage
    incumbent: str | None
    candidate: str | None
    share: float
    since: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardView:
    """The whole leaderboard."""

    object: Literal["leaderboard"] = "leaderboard"
    source: str | None
    network: str | None
    netuid: int | None
    competition: str | None
    block: int | None
    taken_at: float | None
    age_seconds: float | None
    stale: bool
    problem: str | None
    metrics: tuple[MetricView, ...]
    models: tuple[ModelView, ...]
    excluded: tuple[ExcludedView, ...]
    validators: tuple[ValidatorView, ...]
    rollout: RolloutView


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedView:
    """A model that can be asked for by name: what OpenAI's list of models has no field for."""

    id: str
    hotkey: str | None
    version: str
    rank: int | None
    status: Status
    mode: Mode | None
    languages: tuple[str, ...]
    voices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOverView:
    """A version that a session did not get."""

    version: str
    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """What a session gets, and why."""

    object: Literal["decision"] = "decision"
    model: str
    version: str
    role: str
    worker: str | None
    shadow: str | None
    reasons: tuple[Reason, ...]
    passed_over: tuple[PassedOverView, ...]
