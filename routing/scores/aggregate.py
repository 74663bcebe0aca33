"""From scorings to standings: pure, and the same whatever order the scorings come in.

- Each validator has a moving average of each metric. A failed scoring is a total of 0. A validator whose newest
  scorings all failed stands at 0 whatever it found before: a model keeps no score from better times.
- The median over validators is the model's (`routing.scores.consensus`).
- What a validator has not scored for `oldest` seconds no longer counts.
- Totals of different scorer profiles cannot be compared: only those of the profile that most validators use count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import median, median_low

from routing.scores.averages import MovingAverage
from routing.scores.consensus import consensus
from routing.scores.metrics import METRICS, Metric
from routing.scores.standings import TOTAL, MetricStanding, MinerStanding, ModelScores

TREND = 64
"""Points of a trend, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageRules:
    """Times in seconds. `failures`: how many in a row make a validator call a model failing.

    `oldest` is twice the age at which validators score a model anew.
    """

    half_life: float = 2 * 86400.0
    oldest: float = 14 * 86400.0
    failures: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What one validator found of one version at one time (Unix time, s). `failure` says why it has no metrics.

    `id` grows from one scoring to the next, and tells those of the same time apart.
    """

    id: int
    validator: str
    at: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    miner: MinerStanding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The scores of one version; until `lapses_at` (Unix time, s) they stay as they are unless there are new scorings.

    `judged`: by validator, how many of its averages the outlier filter looked at, and how many it kept.
    """

    scores: ModelScores
    lapses_at: float
    judged: Mapping[str, tuple[int, int]]


def profile_in_force(profiles: Mapping[str, str]) -> str | None:
    """The scorer profile that most validators use, of those of the validators' newest submissions."""
    users = Counter(profiles.values())
    return max(users, key=lambda profile: (users[profile], profile), default=None)


def stand(scorings: Iterable[Scoring], *, now: float, rules: AverageRules) -> Standing:
    """How a version stands at `now`, from its scorings in one profile."""
    heard = _heard(scorings, now - rules.oldest)
    standings: dict[str, MetricStanding] = {}
    judged: dict[str, tuple[int, int]] = {}
    newest = [series[-1].at for series in heard.values()]
    for metric in METRICS.values():
        found = _found(heard, metric, now - rules.oldest, rules)
        if found:
            standings[metric.id], kept = _metric_standing(found, metric)
            newest += [series.values[-1][0] for series in found.values()]
            for validator, is_kept in zip(found, kept, strict=True):
                seen, agreed = judged.get(validator, (0, 0))
                judged[validator] = (seen + 1, agreed + is_kept)
    failure = _failure(list(heard.values()), rules)
    return Standing(
        scores=ModelScores(
            metrics=standings, miner=_miner(list(heard.values())), failing=failure is not None, failure=failure
        ),
        lapses_at=min(newest, default=math.inf) + rules.oldest,
        judged=judged,
    )


def _order(scoring: Scoring) -> tuple[float, int]:
    return scoring.at, scoring.id


def _heard(scorings: Iterable[Scoring], since: float) -> dict[str, list[Scoring]]:
    """The scorings of each validator that has made one since, oldest first."""
    by_validator: dict[str, list[Scoring]] = {}
    for scoring in sorted(scorings, key=_order):
        by_validator.setdefault(scoring.validator, []).append(scoring)
    return {validator: series for validator, series in sorted(by_validator.items()) if series[-1].at >= since}


class _Series:
    """One validator's values of one metric, one after the other; `failed` marks those of failed scorings."""

    def __init__(self, values: Sequence[tuple[float, float, bool]], rules: AverageRules) -> None:
        self.values = values
        self.current = self.all = MovingAverage(rules.half_life)
        self._failures = MovingAverage(rules.half_life)
        self._rules = rules

    def add(self, at: float, value: float, failed: bool) -> None:
        """Take one in. After it `current` is the average of all so far, or of the newest failures alone."""
        self.current = self.all
        self.all.add(at, value)
        if failed:
            self._failures.add(at, value)
            if self._failures.samples >= min(self._rules.failures, self.all.samples):
                self.current = self._failures
        elif self._failures.samples:
            self._failures = MovingAverage(self._rules.half_life)


def _found(
    heard: Mapping[str, Sequence[Scoring]], metric: Metric, since: float, rules: AverageRules
) -> dict[str, _Series]:
    """The series of each validator that has found a value since."""
    found = {}
    for validator, series in heard.items():
        values = [
            (scoring.at, scoring.metrics.get(metric.id, 0.0), scoring.failure is not None)
            for scoring in series
            if metric.id in scoring.metrics or (metric.id == TOTAL and scoring.failure is not None)
        ]
        if values and values[-1][0] >= since:
            found[validator] = _Series(values, rules)
    return found


def _metric_standing(found: Mapping[str, _Series], metric: Metric) -> tuple[MetricStanding, tuple[bool, ...]]:
    trend = _trend(list(found.values()))  # which fills the averages, too
    averages = [series.current.result(metric) for series in found.values()]
    together = consensus(averages, grain=metric.grain)
    standing = MetricStanding(
        average=together.value,
        low=together.low,
        high=together.high,
        latest=median(series.values[-1][1] for series in found.values()),
        samples=sum(series.all.samples for series in found.values()),
        validators=len(found),
        agreement=sum(together.kept) / len(found),
        updated_at=max(series.values[-1][0] for series in found.values()),
        trend=trend,
    )
    return standing, together.kept


def _trend(found: Sequence[_Series]) -> tuple[tuple[float, float], ...]:
    """The median of the averages as it was at up to `TREND` times; the series take their values in on the way."""
    events = [(at, number, value, failed) for number, series in enumerate(found) for at, value, failed in series.values]
    events.sort(key=itemgetter(0))
    ends = [place for place, event in enumerate(events, 1) if place == len(events) or events[place][0] > event[0]]
    shown = set(ends) if len(ends) <= TREND else {ends[i * (len(ends) - 1) // (TREND - 1)] for i in range(TREND)}
    points = []
    for place, (at, number, value, failed) in enumerate(events, 1):
        found[number].add(at, value, failed)
        if place in shown:
            points.append((at, median(series.current.value for series in found if series.all.samples)))
    return tuple(points)


def _failure(all_series: Sequence[Sequence[Scoring]], rules: AverageRules) -> str | None:
    """How the newest scorings failed, where most validators' did; None where not."""
    newest = [
        series[-1] for series in all_series if all(scoring.failure is not None for scoring in series[-rules.failures :])
    ]
    if 2 * len(newest) <= len(all_series):
        return None
    return max(newest, key=_order).failure


def _miner(all_series: Sequence[Sequence[Scoring]]) -> MinerStanding:
    """The medians of what each validator said last."""
    told = ([scoring.miner for scoring in series if scoring.miner is not None] for series in all_series)
    said = [miners[-1] for miners in told if miners]
    streaks = [miner.streak for miner in said if miner.streak is not None]
    return MinerStanding(
        emission=_median(miner.emission for miner in said),
        reputation=_median(miner.reputation for miner in said),
        streak=median_low(streaks) if streaks else None,
        decay=_median(miner.decay for miner in said),
        recovery=_median(miner.recovery for miner in said),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
