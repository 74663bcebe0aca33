"""How the medians of moving averages went, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from routing.scores.averages import Flags, Floats
from routing.scores.series import Averaged

TREND = 64
"""Points of a trend, at most."""

Trend = tuple[tuple[float, float], ...]


def trends(averaged: Averaged, first: int, found: Flags) -> Mapping[int, Trend]:
    """By metric, the median of the averages as it was at up to `TREND` times, the first and the last among them.

    `found` (series, metrics): which of the series that begin at `first` count. Metrics measured in the same scorings,
    as most are, are done together.
    """
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for metric in np.flatnonzero(found.any(axis=0)).tolist():
        series = first + np.flatnonzero(found[:, metric])
        key = series.tobytes(), averaged.there[:, series, metric].tobytes()
        alike.setdefault(key, []).append(metric)
    drawn: dict[int, Trend] = {}
    for metrics in alike.values():
        times, values = _drawn(averaged, first + np.flatnonzero(found[:, metrics[0]]), metrics)
        for metric, column in zip(metrics, values.T.tolist(), strict=True):
            drawn[metric] = tuple(zip(times, column, strict=True))
    return drawn


def _drawn(averaged: Averaged, series: npt.NDArray[np.intp], metrics: Sequence[int]) -> tuple[list[float], Floats]:
    """Times, and values (times, metrics)."""
    at = averaged.at[:, series]
    times = np.unique(at[averaged.there[:, series, metrics[0]]])
    if len(times) > TREND:
        times = times[np.arange(TREND) * (len(times) - 1) // (TREND - 1)]
    steps = np.stack([np.searchsorted(one, times, side="right") - 1 for one in at.T])
    values = averaged.trail[steps[:, :, None], series[:, None, None], np.array(metrics)]
    values[steps < 0] = np.nan
    return times.tolist(), _medians(values)


def _medians(values: Floats) -> Floats:
    """Along the first axis, of what is not NaN, which is at least one value."""
    ranked = np.sort(values, axis=0)  # NaN last
    count = np.count_nonzero(~np.isnan(ranked), axis=0)[None]
    lower = np.take_along_axis(ranked, (count - 1) // 2, axis=0)
    upper = np.take_along_axis(ranked, count // 2, axis=0)
    return np.asarray((lower + upper)[0] / 2)
