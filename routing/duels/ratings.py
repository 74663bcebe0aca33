"""Ratings out of votes: Bradley-Terry, with confidence intervals.

A version of strength s beats one of strength t with probability 1 / (1 + exp(t - s)) (Bradley and Terry, 1952). That is
a logistic regression on who met whom, and statsmodels' GLM fits it: estimates and their covariance (the inverse of
Fisher's information) come from the library. Compared with the two libraries made for pairs:

- choix 0.4 (numpy and scipy alone, the lightest) gives a mean and a covariance by expectation propagation, in Python,
  vote by vote: thousands of votes take seconds, in a process where others are being talked to. It knows no ties: one
  can only be written as a win each, which counts it twice. Its intervals are as good as these.
- evalica 0.4 (Rust) takes ties. Its intervals are a bootstrap's over votes, which is blind where votes are few: after
  three wins of three it gives no number, and models that never met, even through others, get ratings side by side as if
  they had. Two hundred resamples of thousands of votes take seconds too.
- A regression needs the sums of each pair alone: milliseconds, however many votes there are. Ties are half a win each
  by the same arithmetic. The price is weight: statsmodels brings pandas, 1 s of import and 130 MB, paid in a thread
  when there first is something to rate.

Each version has also won a game against an average opponent, who is nobody, and lost one. This keeps a version that has
won all of its duels at a finite rating, and ties together groups of versions that have never met, whose ratings then
say with wide intervals how little is known. Two games are soon outvoted.

Ratings are relative to the mean of all versions with votes, which is 1500: the interval is that of the difference to
the mean, for what all have in common cannot be known from duels.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routing.duels.votes import Tally
from streaming.errors import EngineError

Floats = npt.NDArray[np.float64]

MEAN = 1500.0
SCALE = 400 / math.log(10)
"""Points of one unit of strength, as in chess: 400 points are odds of ten to one."""

LEAST_VOTES = 10
"""Below this a version is not rated: its interval would be wider than the differences between models."""

PRIOR = 1.0
"""Games that each version has won against the average opponent, and as many lost."""

_Z = 1.96  # of a 95 % interval
_FLAT = 1e-3  # the slope, in votes, of the likelihood at its peak

_POINTS = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""What A gets of a vote; B gets the rest. `neither` is no comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A version's strength in points, with its 95 % interval. `votes`: those that it rests on, ties included."""

    value: float
    low: float
    high: float
    votes: int


def ratings(tallies: Iterable[Tally], *, least: int = LEAST_VOTES) -> Mapping[str, Rating]:
    """The rating of every version with `least` votes or more, by version.

    Takes milliseconds, or seconds above a hundred versions, and much longer the first time: not for an event loop.
    Raises ModuleNotFoundError where statsmodels is not installed and there is something to rate, and EngineError
    (`ratings_diverged`) where no fit is found, which takes millions of votes that contradict one another.
    """
    games = _games(tallies)
    votes: Counter[str] = Counter()
    for (first, second), (won, lost) in games.items():
        for version in (first, second):
            votes[version] += round(won + lost)
    if not any(count >= least for count in votes.values()):
        return {}
    versions = sorted(votes)
    strengths, errors = _fit(games, versions)
    return {
        version: Rating(
            value=round(MEAN + SCALE * strength, 1),
            low=round(MEAN + SCALE * (strength - _Z * error), 1),
            high=round(MEAN + SCALE * (strength + _Z * error), 1),
            votes=votes[version],
        )
        for version, strength, error in zip(versions, strengths.tolist(), errors.tolist(), strict=True)
        if votes[version] >= least
    }


def _games(tallies: Iterable[Tally]) -> Mapping[tuple[str, str], tuple[float, float]]:
    """Points won and lost by the first of each pair, whichever side it was on."""
    games: defaultdict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for tally in tallies:
        if (share := _POINTS.get(tally.winner)) is None or not tally.votes:
            continue
        pair = (tally.version_a, tally.version_b)
        if pair[0] > pair[1]:
            pair, share = (tally.version_b, tally.version_a), 1 - share
        won, lost = games[pair]
        games[pair] = (won + share * tally.votes, lost + (1 - share) * tally.votes)
    return games


def _fit(games: Mapping[tuple[str, str], tuple[float, float]], versions: list[str]) -> tuple[Floats, Floats]:
    """Strengths and their standard errors, relative to the mean strength."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    count = len(versions)
    index = {version: column for column, version in enumerate(versions)}
    met = np.zeros((len(games), count))
    for row, (first, second) in enumerate(games):
        met[row, index[first]], met[row, index[second]] = 1.0, -1.0
    # Against the average opponent, whose strength is 0. A win and a loss, each in a row of its own: what can be met
    # exactly, as a draw between equals, statsmodels takes for data that determine nothing, and warns.
    design = np.vstack((met, np.eye(count), np.eye(count)))
    points = np.array([*games.values(), *[(PRIOR, 0.0)] * count, *[(0.0, PRIOR)] * count])
    model = GLM(points, design, family=Binomial())
    fit = model.fit(maxiter=100)
    # Where thousands of votes contradict one another, the iteration can run away and call that convergence.
    if not np.abs(model.score(fit.params)).max() < _FLAT:
        raise EngineError("No ratings can be made of these votes.", code="ratings_diverged")
    centring = np.eye(count) - 1 / count
    covariance = centring @ fit.cov_params() @ centring
    return centring @ fit.params, np.sqrt(np.maximum(np.diag(covariance), 0.0))
