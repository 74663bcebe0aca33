"""What validators measured, as the rest of the router and the page see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOTAL = "total"
"""The metric that models are ranked and gated by: a scorer profile's total, 0 to 1, higher is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStanding:
    """One metric of one version of a model, over all validators that are heard.

    `average`: the median, over validators, of each one's moving average; `low` and `high` its 95 % confidence
    interval. `latest`: the median of their newest values. `samples`: submissions that it rests on. `agreement`: the
    share of validators that the outlier filter kept, 0 to 1. `updated_at`: Unix time of the newest.
    `trend`: (Unix time, value), oldest first, at most 64 points.
    """

    average: float
    low: float
    high: float
    latest: float
    samples: int
    validators: int
    agreement: float
    updated_at: float
    trend: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerStanding:
    """What validators deliver of a miner beside the scores; medians over them. None where nobody said.

    `emission`: the share that they give it, 0 to 1. `reputation`: 0 to 1. `streak`: scorings in a row above the
    baseline, negative below. `decay`: the factor that stagnation takes off its weight, 1 for none. `recovery`: how
    much of a decay has been won back, 0 to 1.
    """

    emission: float | None = None
    reputation: float | None = None
    streak: int | None = None
    decay: float | None = None
    recovery: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores:
    """All that was measured of one version of a model. `metrics` is by name (see `routing.scores.metrics`).

    `failing`: its newest scorings failed, whatever it scored before; `failure` says how.
    """

    metrics: Mapping[str, MetricStanding] = field(default_factory=dict)
    miner: MinerStanding = MinerStanding()
    failing: bool = False
    failure: str | None = None

    @property
    def total(self) -> MetricStanding | None:
        """The metric that it is ranked by."""
        return self.metrics.get(TOTAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorStanding:
    """How consistent a validator is.

    `agreement`: the share of its recent values that the outlier filter kept, 0 to 1.
    """

    hotkey: str
    version: str
    profile: str
    last_run_at: float
    submissions: int
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoreboard:
    """Everything that is known of the models' measured quality. `models` is by key (`leaderboard.model_key`)."""

    models: Mapping[str, ModelScores] = field(default_factory=dict)
    validators: tuple[ValidatorStanding, ...] = ()

    def of(self, key: str) -> ModelScores:
        """The scores of a version; empty where nobody has scored it."""
        return self.models.get(key, _UNSCORED)


_UNSCORED = ModelScores()
