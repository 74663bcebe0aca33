"""What validators found, one scoring after the other: many series laid side by side, and averaged together.

Arrays have the axes (steps, series, metrics): a step is a series' next scoring, whenever that was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from routing.scores.averages import Average, Flags, Floats, MovingAverages
from routing.scores.metrics import METRICS, Metric
from routing.scores.standings import TOTAL, MinerStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageRules:
    """`rescoring`: seconds after which validators score a model anew. `failures`: how many in a row make a validator
    call a model failing.
    """

    rescoring: float = 7 * 86400.0
    failures: int = 2

    @property
    def half_life(self) -> float:
        """Seconds. If it were much shorter than the time between scorings, each would stand alone, and no average
        would ever be surer than one scoring is.
        """
        return self.rescoring

    @property
    def oldest(self) -> float:
        """Seconds after which what has not been scored anew no longer counts: one round may be missed."""
        return 2 * self.rescoring

    @property
    def reach(self) -> float:
        """Seconds after which a scoring is left out of its series, in which it hardly weighs by then."""
        return 8 * self.half_life


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


class Averaged:
    """The moving averages of series, each with at least one scoring, oldest first.

    A failed scoring is a total of 0; after `AverageRules.failures` of them in a row the total's average is that of the
    failures alone.

    `metrics`: the third axis; the total is its first. `at` (steps, series): when, infinity beyond a series' end.
    `there`: where a value is. `trail`: the averages after each step, NaN before the first value. `newest`: (series,
    metrics), of the last value.
    """

    def __init__(self, all_series: Sequence[Sequence[Scoring]], rules: AverageRules) -> None:
        measured = {name for series in all_series for scoring in series for name in scoring.metrics}
        self.metrics: tuple[Metric, ...] = tuple(
            metric for name, metric in METRICS.items() if name in measured or name == TOTAL
        )
        steps = max(map(len, all_series))
        shape = (steps, len(all_series), len(self.metrics))
        self.at: Floats = np.full(shape[:2], np.inf)
        values, failed = np.full(shape, np.nan), np.zeros(shape[:2], np.bool_)
        names = [metric.id for metric in self.metrics]
        for number, series in enumerate(all_series):
            count = len(series)
            self.at[:count, number] = [scoring.at for scoring in series]
            failed[:count, number] = [scoring.failure is not None for scoring in series]
            values[:count, number] = [[scoring.metrics.get(name, math.nan) for name in names] for scoring in series]
        values[failed, 0] = 0.0
        self.there: Flags = ~np.isnan(values)
        self._all = MovingAverages(shape[1:], rules.half_life)
        self._failures = MovingAverages(shape[1:2], rules.half_life)
        self.trail: Floats = np.empty(shape)
        for step in range(steps):
            self._all.add(self.at[step, :, None], values[step])
            self._failures.forget(self.there[step, :, 0] & ~failed[step])
            self._failures.add(self.at[step], np.where(failed[step], 0.0, np.nan))
            self.trail[step] = np.where(self._all.samples, self._all.value, np.nan)
            self._failing = self._failures.samples >= rules.failures
            self.trail[step, self._failing, 0] = 0.0

    @property
    def newest(self) -> Floats:
        """When the last value was, minus infinity where there is none."""
        return self._all.at

    def latest(self, series: int, metric: int) -> float:
        """The last value."""
        return float(self._all.latest[series, metric])

    def samples(self, series: int, metric: int) -> int:
        """How many values there are."""
        return int(self._all.samples[series, metric])

    def average(self, series: int, metric: int) -> Average:
        """Of all values, or of the newest failures."""
        if metric == 0 and self._failing[series]:
            return self._failures.result((series,), self.metrics[0])
        return self._all.result((series, metric), self.metrics[metric])
