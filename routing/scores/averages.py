"""One validator's moving average of one metric, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from routing.scores.metrics import Metric

_T = (
    (1, 12.706),
    (2, 4.303),
    (3, 3.182),
    (4, 2.776),
    (6, 2.447),
    (10, 2.228),
    (20, 2.086),
    (60, 2.0),
    (math.inf, 1.96),
)
"""Degrees of freedom, and how many standard errors about a mean hold 95 % of Student's t distribution."""

_FEW = 1.25
"""Values' worth of weight, below which a spread says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A mean with its 95 % confidence interval and its standard error; `samples` values are in it."""

    value: float
    low: float
    high: float
    error: float
    samples: int


class MovingAverage:
    """The mean of values, each weighing half of one that is `half_life` seconds newer.

    Mean and spread are kept up to date with each value: D. H. D. West, "Updating mean and variance estimates" (1979).
    The interval is that of a mean of independent values, of which there are as many as carry the weight (Kish's
    effective sample size): old values lend no certainty.
    """

    __slots__ = ("_at", "_half_life", "_squares", "_value", "_weight", "_weight_squares", "samples")

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._at = -math.inf
        self._value = self._squares = self._weight = self._weight_squares = 0.0
        self.samples = 0

    @property
    def value(self) -> float:
        """The mean; 0 of none."""
        return self._value

    def add(self, at: float, value: float) -> None:
        """One more value, of the time `at` (s), which is not before the last one's."""
        kept = math.exp2((self._at - at) / self._half_life)
        self._at = at
        self._weight = self._weight * kept + 1
        self._weight_squares = self._weight_squares * kept * kept + 1
        away = value - self._value
        self._value += away / self._weight
        self._squares = self._squares * kept + away * (value - self._value)
        self.samples += 1

    def result(self, metric: Metric) -> Average:
        """The average so far, within the metric's range; of one value nothing is sure but that range."""
        value = min(max(self._value, metric.low), metric.high)
        effective = self._weight**2 / self._weight_squares
        if effective < _FEW:
            quarter = (metric.high - metric.low) / 4
            return Average(value=value, low=metric.low, high=metric.high, error=quarter, samples=self.samples)
        variance = self._squares / (self._weight - self._weight_squares / self._weight)
        # Values that happen to agree do not prove that there is no noise.
        error = max(math.sqrt(max(variance, 0.0)), metric.grain) / math.sqrt(effective)
        reach = standard_errors(effective - 1) * error
        return Average(
            value=value,
            low=max(value - reach, metric.low),
            high=min(value + reach, metric.high),
            error=error,
            samples=self.samples,
        )


def standard_errors(freedom: float) -> float:
    """How many of them hold 95 %. Between the table's entries it is on the safe side; below, it follows the tail."""
    if freedom < 1:
        return float(_T[0][1] ** (1 / freedom))
    (fewer, wider), (more, narrower) = next(pair for pair in pairwise(_T) if freedom < pair[1][0])
    share = (1 / freedom - 1 / more) / (1 / fewer - 1 / more)
    return narrower + share * (wider - narrower)
