"""Badges: what stands out about a model, said of it only where the figures carry it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from routing.policy.contract import LiveTable, Ranked, Rules

NEW_FOR = 50_400
"""Blocks for which a model is a newcomer: a week of 12 s each."""

STREAK = 5
"""Scorings in a row above the baseline that make a streak."""

IMPROVED = 0.02
"""Gain of the measured total, over its trend, that is an improvement."""

_TREND_POINTS = 4  # of the trend, at least; each end of it is the mean of half of them
_RATINGS = 10  # users' ratings, at least, for their favourite


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A short title, and what it says. `id` is for programs."""

    id: str
    title: str
    about: str


LEADS = Badge(id="top", title="Leads", about="First in the ranking")
NEWCOMER = Badge(id="newcomer", title="Newcomer", about="Committed within the last week")
ON_A_STREAK = Badge(id="streak", title="On a streak", about=f"Above the baseline {STREAK} times in a row or more")
DECAYING = Badge(id="decaying", title="Decaying", about="Has not improved for long, and earns less for it")
RECOVERING = Badge(id="recovering", title="Recovering", about="Wins back what stagnation had cost it")
MOST_IMPROVED = Badge(id="improved", title="Most improved", about="Its measured score has risen most")
FASTEST = Badge(id="fastest", title="Fastest", about="The shortest p95 gap in conversations here")
FAVOURITE = Badge(id="favourite", title="Users' favourite", about="Rated best by those who talked to it")
DUEL_CHAMPION = Badge(id="duels", title="Duel champion", about="Wins blind duels, beyond the margin of chance")


def badges(
    ranking: Sequence[Ranked],
    *,
    live: LiveTable,
    rules: Rules,
    block: int | None = None,
    feedback: Mapping[str, tuple[float, int]] | None = None,
    ratings: Mapping[str, tuple[float, float]] | None = None,
) -> Mapping[str, tuple[Badge, ...]]:
    """The badges of every version that has any, by key.

    `block`: the snapshot's. `feedback`: mean of the users' ratings, and how many there are. `ratings`: the low and high
    end of the 95 % interval of the rating from duels. What is best of all goes to one that is clearly ahead of another;
    where only one is known, or two are level, to nobody.
    """
    able = [ranked for ranked in ranking if ranked.excluded is None]
    keys = {ranked.key for ranked in able}
    best = {
        MOST_IMPROVED: _highest(
            {ranked.key: gain for ranked in able if (gain := _gain(ranked)) >= IMPROVED}, alone=True
        ),
        FASTEST: _highest(_speeds(live, keys, rules)),
        FAVOURITE: _highest({k: mean for k, (mean, n) in (feedback or {}).items() if k in keys and n >= _RATINGS}),
        DUEL_CHAMPION: _champion({k: rating for k, rating in (ratings or {}).items() if k in keys}),
    }
    found = {
        ranked.key: (*_own(ranked, block), *(badge for badge, key in best.items() if key == ranked.key))
        for ranked in able
    }
    return {key: earned for key, earned in found.items() if earned}


def _own(ranked: Ranked, block: int | None) -> list[Badge]:
    """Those that it has whatever the others do."""
    entry, miner = ranked.entry, ranked.scores.miner
    decaying = miner.decay is not None and miner.decay < 1
    recovering = decaying and miner.recovery is not None and miner.recovery > 0
    held = {
        LEADS: ranked.rank == 1 and entry is not None and entry.incentive > 0,
        NEWCOMER: ranked.mined and entry is not None and block is not None and 0 <= block - entry.block <= NEW_FOR,
        ON_A_STREAK: miner.streak is not None and miner.streak >= STREAK,
        DECAYING: decaying and not recovering,
        RECOVERING: recovering,
    }
    return [badge for badge, holds in held.items() if holds]


def _gain(ranked: Ranked) -> float:
    """From the older half of the measured total's trend to the newer: the difference of their means."""
    total = ranked.scores.total
    values = [value for _, value in total.trend] if total is not None else []
    if len(values) < _TREND_POINTS:
        return 0.0
    half = len(values) // 2
    return sum(values[-half:]) / half - sum(values[:half]) / half


def _speeds(live: LiveTable, keys: set[str], rules: Rules) -> dict[str, float]:
    return {
        key: -stats.gap_p95
        for key, stats in live.items()
        if key in keys and stats.gap_p95 is not None and stats.turns >= rules.least_turns
    }


def _highest(values: Mapping[str, float], *, alone: bool = False) -> str | None:
    """Whose value is above all others'; of one alone only where that says something."""
    ordered = sorted(values.items(), key=lambda item: -item[1])
    if len(ordered) == 1:
        return ordered[0][0] if alone else None
    return ordered[0][0] if ordered and ordered[0][1] > ordered[1][1] else None


def _champion(ratings: Mapping[str, tuple[float, float]]) -> str | None:
    """Whose interval lies above all others'."""
    if len(ratings) < 2:
        return None
    best = max(ratings, key=lambda key: ratings[key][0])
    low = ratings[best][0]
    return best if all(high < low for key, (_, high) in ratings.items() if key != best) else None
