"""Ratings put together by version, for those who evaluate models.

A group says nothing of its members where it is small: somebody who knows who talked to a version on a day could read
that person's rating off an aggregate of one. So what a group of fewer than `LEAST` ratings would tell is left out, and
comments are told by version alone, in no order, beside neither their rating nor their day.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LEAST = 5
"""Ratings in the smallest group of which anything but its size is told."""

_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One stored rating. `total_ms`: from the end of the user's speech to the reply's first frame."""

    version: str
    rating: int
    tags: tuple[str, ...]
    total_ms: float
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Percentiles of the wait for replies, in ms, over so many ratings; None for a group that is too small."""

    ratings: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFeedback:
    """What users said of one version. `mean` with its 95 % interval, 1 to 5. None where there are too few.

    `tags`: how often each was given. `wait`: of all ratings; `wait_by_rating`: of each rating that was given.
    """

    version: str
    ratings: int
    mean: float | None
    low: float | None
    high: float | None
    tags: Mapping[str, int] = field(default_factory=dict)
    wait: Wait
    wait_by_rating: Mapping[int, Wait] = field(default_factory=dict)
    comments: tuple[str, ...] = ()


def aggregate(rows: Iterable[Rated]) -> tuple[VersionFeedback, ...]:
    """The feedback of each version, in order of their names."""
    groups: defaultdict[str, list[Rated]] = defaultdict(list)
    for row in rows:
        groups[row.version].append(row)
    return tuple(_version(version, groups[version]) for version in sorted(groups))


def mean_interval(mean: float, count: int) -> tuple[float, float]:
    """The 95 % interval of the mean of `count` ratings from 1 to 5.

    Wilson's interval of a share, brought to that scale: what is bounded varies at most as much as a coin of the same
    mean, so it is wide rather than narrow; it stays on the scale, and is no point where all have said the same.
    """
    share = (mean - 1) / 4
    weight = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / weight
    half = _Z / weight * math.sqrt(max(0.0, share * (1 - share)) / count + _Z**2 / (4 * count**2))
    return 1 + 4 * max(0.0, centre - half), 1 + 4 * min(1.0, centre + half)


def _version(version: str, rows: Sequence[Rated]) -> VersionFeedback:
    waits = [row.total_ms for row in rows]
    if len(rows) < LEAST:
        few = _wait(waits)
        return VersionFeedback(version=version, ratings=len(rows), mean=None, low=None, high=None, wait=few)
    mean = sum(row.rating for row in rows) / len(rows)
    low, high = mean_interval(mean, len(rows))
    by_rating = {rating: [row.total_ms for row in rows if row.rating == rating] for rating in range(1, 6)}
    return VersionFeedback(
        version=version,
        ratings=len(rows),
        mean=round(mean, 3),
        low=round(low, 3),
        high=round(high, 3),
        tags=dict(sorted(Counter(tag for row in rows for tag in row.tags).items())),
        wait=_wait(waits),
        wait_by_rating={rating: _wait(group) for rating, group in by_rating.items() if group},
        # By their own text, so that no order tells who came first.
        comments=tuple(sorted(row.comment for row in rows if row.comment)),
    )


def _wait(waits: Sequence[float]) -> Wait:
    if len(waits) < LEAST:
        return Wait(ratings=len(waits), p50_ms=None, p95_ms=None)
    p50, p95 = np.percentile(waits, (50, 95))
    return Wait(ratings=len(waits), p50_ms=round(float(p50), 1), p95_ms=round(float(p95), 1))
