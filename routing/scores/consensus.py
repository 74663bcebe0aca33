"""What validators say together, where each may err and a few may lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from routing.scores.averages import Average

_SPREADS = 3.0
_NORMAL = 1.4826
"""A normal distribution's standard deviation in median absolute deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The median, its 95 % confidence interval, and which of the validators' values the outlier filter kept."""

    value: float
    low: float
    high: float
    kept: tuple[bool, ...]


def consensus(averages: Sequence[Average], *, grain: float) -> Consensus:
    """Of one value from each validator, at least one.

    The value is the median of all: fewer than half of the validators, whatever they say, cannot move it out of the
    range of the others. (A median of what a filter kept could be moved: of .1, .9 and a liar's .95 the filter drops
    the .1.) The filter decides who agrees, and whose doubts count: the interval holds the middle of the kept ones'
    own intervals, and the distribution-free interval of a median of their values, so that it is wide where they differ.
    """
    values = [average.value for average in averages]
    value = median(values)
    kept = keep(averages, grain=grain)
    trusted = [average for average, is_kept in zip(averages, kept, strict=True) if is_kept]
    ranked = sorted(average.value for average in trusted)
    outside = _outside(len(ranked))
    return Consensus(
        value=value,
        low=min(value, ranked[outside], median(average.low for average in trusted)),
        high=max(value, ranked[-1 - outside], median(average.high for average in trusted)),
        kept=kept,
    )


def keep(averages: Sequence[Average], *, grain: float) -> tuple[bool, ...]:
    """The outlier filter: who is within three spreads of the median.

    The spread is the median absolute deviation; where validators happen to agree more closely than their own noise
    allows, or than matters (`grain`), it is that. At least half are kept. Of one or two nobody can be told to be wrong.
    """
    if len(averages) < 3:
        return (True,) * len(averages)
    middle = median(average.value for average in averages)
    deviation = median(abs(average.value - middle) for average in averages)
    spread = max(_NORMAL * deviation, median(average.error for average in averages), grain)
    return tuple(abs(average.value - middle) <= _SPREADS * spread for average in averages)


def _outside(count: int) -> int:
    """How many of `count` ranked values lie below the median's 95 % interval, and as many above: none of up to five."""
    ways, outside = 1, 0
    while 2 * ways <= 0.05 * 2**count:
        outside += 1
        ways += math.comb(count, outside)
    return max(outside - 1, 0)
