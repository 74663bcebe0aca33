"""Moving averages of many series at once, and how sure they are. A series: what one validator says of one metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routing.scores.metrics import Metric

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_FREEDOM = np.array((np.inf, 60, 20, 10, 6, 4, 3, 2, 1))
_ERRORS = np.array((1.96, 2.0, 2.086, 2.228, 2.447, 2.776, 3.182, 4.303, 12.706))
"""Degrees of freedom, and how many standard errors about a mean hold 95 % of Student's t distribution."""

_FEW = 1.25
"""Values' worth of weight, below which a spread says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A mean with its 95 % confidence interval and its standard error."""

    value: float
    low: float
    high: float
    error: float


class MovingAverages:
    """The means of values, each weighing half of one that is `half_life` seconds newer; one for each place of an array.

    Mean and spread are kept up to date with each value: D. H. D. West, "Updating mean and variance estimates" (1979).
    The interval is that of a mean of independent values, of which there are as many as carry the weight (Kish's
    effective sample size): old values lend no certainty.

    `value`: the means, 0 of none; `samples`: how many values are in them; `latest`, `at`: the newest and its time (s).
    """

    def __init__(self, shape: tuple[int, ...], half_life: float) -> None:
        self.value, self.latest = np.zeros(shape), np.zeros(shape)
        self.at = np.full(shape, -np.inf)
        self.samples = np.zeros(shape, np.int64)
        self._half_life = half_life
        self._squares, self._weight, self._weight_squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, at: Floats, values: Floats) -> None:
        """One more value of each, NaN where there is none, of the time `at` (s), which is not before the last one's."""
        there = ~np.isnan(values)
        kept = np.exp2((self.at - at) / self._half_life)
        weight = self._weight * kept + 1
        away = values - self.value
        value = self.value + away / weight
        np.copyto(self._squares, self._squares * kept + away * (values - value), where=there)
        np.copyto(self._weight_squares, self._weight_squares * kept * kept + 1, where=there)
        np.copyto(self._weight, weight, where=there)
        np.copyto(self.value, value, where=there)
        np.copyto(self.latest, values, where=there)
        np.copyto(self.at, at, where=there)
        self.samples += there

    def forget(self, which: Flags) -> None:
        """Begin anew at these places."""
        for state in (self.value, self.latest, self.samples, self._squares, self._weight, self._weight_squares):
            state[which] = 0
        self.at[which] = -np.inf

    def result(self, place: tuple[int, ...], metric: Metric) -> Average:
        """The average so far at a place that has values, within the metric's range.

        Of one value nothing is sure but that range.
        """
        value = min(max(self.value[place].item(), metric.low), metric.high)
        weight, weight_squares = self._weight[place].item(), self._weight_squares[place].item()
        effective = weight**2 / weight_squares
        if effective < _FEW:
            return Average(value=value, low=metric.low, high=metric.high, error=(metric.high - metric.low) / 4)
        variance = max(self._squares[place].item(), 0.0) / (weight - weight_squares / weight)
        # Values that happen to agree do not prove that there is no noise.
        error = max(variance**0.5, metric.grain) / effective**0.5
        reach = standard_errors(effective - 1) * error
        return Average(
            value=value, low=max(value - reach, metric.low), high=min(value + reach, metric.high), error=error
        )


def standard_errors(freedom: float) -> float:
    """How many of them hold 95 %. Between the table's entries it is on the safe side; below, it follows the tail."""
    if freedom < 1:
        return float(_ERRORS[-1] ** (1 / freedom))
    return float(np.interp(1 / freedom, 1 / _FREEDOM, _ERRORS))
