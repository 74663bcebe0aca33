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
from dataclasses import dataclass
from statistics import median, median_low

import numpy as np

from routing.scores.consensus import consensus
from routing.scores.series import Averaged, AverageRules, Scoring
from routing.scores.standings import MetricStanding, MinerStanding, ModelScores
from routing.scores.trends import Trend, trends


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The scores of one version; until `lapses_at` (Unix time, s) they stay as they are unless there are new scorings.

    `judged`: by validator, how many of its averages the outlier filter looked at, and how many it kept.
    """

    scores: ModelScores
    lapses_at: float
    judged: Mapping[str, tuple[int, int]]


_UNHEARD = Standing(scores=ModelScores(), lapses_at=math.inf, judged={})


def profile_in_force(profiles: Mapping[str, str]) -> str | None:
    """The scorer profile that most validators use, of those of the validators' newest submissions."""
    users = Counter(profiles.values())
    return max(users, key=lambda profile: (users[profile], profile), default=None)


def stand(scorings: Mapping[str, Iterable[Scoring]], *, now: float, rules: AverageRules) -> dict[str, Standing]:
    """How versions stand at `now`, from the scorings of each in one profile. Many at once cost less than one by one."""
    since = now - rules.oldest
    heard = {version: _heard(found, since) for version, found in scorings.items()}
    all_series = [series for one in heard.values() for series in one.values()]
    if not all_series:
        return dict.fromkeys(heard, _UNHEARD)
    averaged = Averaged(all_series, rules)
    standings, first = {}, 0
    for version, one in heard.items():
        standings[version] = _standing(one, averaged, first, since, rules) if one else _UNHEARD
        first += len(one)
    return standings


def _order(scoring: Scoring) -> tuple[float, int]:
    return scoring.at, scoring.id


def _heard(scorings: Iterable[Scoring], since: float) -> dict[str, list[Scoring]]:
    """The scorings of each validator that has made one since, oldest first."""
    by_validator: dict[str, list[Scoring]] = {}
    for scoring in sorted(scorings, key=_order):
        by_validator.setdefault(scoring.validator, []).append(scoring)
    return {validator: series for validator, series in sorted(by_validator.items()) if series[-1].at >= since}


def _standing(
    heard: Mapping[str, Sequence[Scoring]], averaged: Averaged, first: int, since: float, rules: AverageRules
) -> Standing:
    """Of the version whose series, one of each validator, begin at `first`."""
    newest = averaged.newest[first : first + len(heard)]
    found = newest >= since
    drawn = trends(averaged, first, found)
    metrics: dict[str, MetricStanding] = {}
    kept = np.zeros_like(found)
    for number in sorted(drawn):
        series = first + np.flatnonzero(found[:, number])
        metric = averaged.metrics[number]
        standing, agreed = _metric_standing(averaged, series.tolist(), number, drawn[number])
        metrics[metric.id] = standing
        kept[found[:, number], number] = agreed
    failure = _failure(list(heard.values()), rules)
    judged = zip(heard, found.sum(axis=1).tolist(), kept.sum(axis=1).tolist(), strict=True)
    lapsing = [*newest[found].tolist(), *(series[-1].at for series in heard.values())]
    return Standing(
        scores=ModelScores(
            metrics=metrics, miner=_miner(list(heard.values())), failing=failure is not None, failure=failure
        ),
        lapses_at=min(lapsing) + rules.oldest,
        judged={validator: (seen, agreed) for validator, seen, agreed in judged if seen},
    )


def _metric_standing(
    averaged: Averaged, series: Sequence[int], metric: int, trend: Trend
) -> tuple[MetricStanding, tuple[bool, ...]]:
    """And which of the series the outlier filter kept."""
    together = consensus([averaged.average(one, metric) for one in series], grain=averaged.metrics[metric].grain)
    standing = MetricStanding(
        average=together.value,
        low=together.low,
        high=together.high,
        latest=median(averaged.latest(one, metric) for one in series),
        samples=sum(averaged.samples(one, metric) for one in series),
        validators=len(series),
        agreement=sum(together.kept) / len(series),
        updated_at=float(averaged.newest[series, metric].max()),
        trend=trend,
    )
    return standing, together.kept


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
