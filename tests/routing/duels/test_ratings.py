from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from routing.duels.ratings import LEAST_VOTES, MEAN, SCALE, Rating, ratings
from routing.duels.votes import Tally, Winner
from streaming.errors import EngineError


def tally(version_a: str, version_b: str, **votes: int) -> list[Tally]:
    winners: dict[str, Winner] = {"a": "A", "b": "B", "tie": "tie", "neither": "neither"}
    return [
        Tally(version_a=version_a, version_b=version_b, winner=winners[name], votes=count)
        for name, count in votes.items()
    ]


def overlap(one: Rating, other: Rating) -> bool:
    return one.low <= other.high and other.low <= one.high


def test_no_votes_no_ratings() -> None:
    assert ratings([]) == {}


def test_equal_versions_are_rated_at_the_mean() -> None:
    rated = ratings(tally("x", "y", a=20, b=20))
    assert set(rated) == {"x", "y"}
    for rating in rated.values():
        assert rating.value == pytest.approx(MEAN)
        assert rating.low < MEAN < rating.high
        assert rating.votes == 40


def test_the_difference_approaches_the_odds_of_the_votes() -> None:
    rated = ratings(tally("x", "y", a=3000, b=1000))
    assert rated["x"].value - rated["y"].value == pytest.approx(SCALE * math.log(3), abs=1)
    assert rated["x"].low > rated["y"].high


def test_the_scale_is_that_of_chess() -> None:
    rated = ratings(tally("x", "y", a=100_000, b=10_000))
    assert rated["x"].value - rated["y"].value == pytest.approx(400, abs=1)


def test_sides_do_not_matter() -> None:
    once = ratings(tally("x", "y", a=12, b=5, tie=3))
    turned = ratings(tally("y", "x", a=5, b=12, tie=3))
    split = ratings([*tally("x", "y", a=6, b=2, tie=3), *tally("y", "x", a=3, b=6)])
    assert once == turned == split


def test_a_tie_is_half_a_win_each() -> None:
    assert ratings(tally("x", "y", tie=20)) == ratings(tally("x", "y", a=10, b=10))
    with_ties = ratings(tally("x", "y", a=12, b=4, tie=30))
    without = ratings(tally("x", "y", a=12, b=4))
    assert MEAN < with_ties["x"].value < without["x"].value


def test_neither_is_no_comparison() -> None:
    assert ratings(tally("x", "y", a=12, b=4, neither=50)) == ratings(tally("x", "y", a=12, b=4))
    assert ratings(tally("x", "y", neither=50)) == {}


def test_below_the_least_number_of_votes_there_is_no_rating() -> None:
    assert ratings(tally("x", "y", a=LEAST_VOTES - 1)) == {}
    rated = ratings([*tally("x", "y", a=8, b=4), *tally("x", "z", b=3)])
    assert set(rated) == {"x", "y"}
    assert rated["x"].votes == 15  # those against a version that is not rated itself count


def test_more_votes_make_narrower_intervals() -> None:
    few, many = ratings(tally("x", "y", a=12, b=8))["x"], ratings(tally("x", "y", a=120, b=80))["x"]
    assert many.high - many.low < (few.high - few.low) / 2


@pytest.mark.parametrize("wins", [10, 1000, 1_000_000])
def test_one_that_has_never_lost_has_a_finite_rating(wins: int) -> None:
    rated = ratings(tally("x", "y", a=wins))
    assert all(math.isfinite(number) for rating in rated.values() for number in (rating.value, rating.low, rating.high))
    assert rated["x"].value > rated["y"].value


def test_one_that_has_never_lost_is_less_sure_than_one_that_has() -> None:
    unbeaten = ratings(tally("x", "y", a=20))["x"]
    beaten = ratings(tally("x", "y", a=10, b=10))["x"]
    assert unbeaten.high - unbeaten.low > beaten.high - beaten.low


def test_versions_that_never_met_even_through_others_are_hardly_told_apart() -> None:
    apart = ratings([*tally("a", "b", a=300, b=100), *tally("c", "d", a=100, b=100)])
    assert apart["a"].value - apart["b"].value == pytest.approx(SCALE * math.log(3), abs=5)
    assert overlap(apart["a"], apart["c"])
    assert apart["a"].high - apart["a"].low > 300
    joined = ratings([*tally("a", "b", a=300, b=100), *tally("c", "d", a=100, b=100), *tally("b", "c", a=100, b=100)])
    assert joined["a"].high - joined["a"].low < 150


def test_strength_is_transitive_through_those_who_met() -> None:
    rated = ratings([*tally("a", "b", a=300, b=100), *tally("b", "c", a=300, b=100)])
    assert rated["a"].value - rated["c"].value == pytest.approx(2 * SCALE * math.log(3), abs=10)


@pytest.mark.filterwarnings("ignore:overflow")
def test_votes_of_which_no_fit_is_found_are_no_ratings() -> None:
    wins = {("m0", "m1"): 8_021_246, ("m0", "m5"): 84_933, ("m0", "m6"): 2_979, ("m1", "m2"): 32_738}
    wins |= {("m1", "m3"): 305_932, ("m2", "m4"): 6_162_241, ("m3", "m4"): 808_406, ("m4", "m6"): 7_578_785}
    losses = {("m0", "m1"): 978, ("m0", "m5"): 5, ("m0", "m6"): 15, ("m1", "m2"): 10}
    losses |= {("m1", "m3"): 667, ("m1", "m5"): 9, ("m3", "m4"): 75, ("m4", "m6"): 408, ("m5", "m6"): 3000}
    votes = [*(tally(*pair, a=count) for pair, count in wins.items())]
    votes += [*(tally(*pair, b=count) for pair, count in losses.items())]
    with pytest.raises(EngineError) as raised:
        ratings(itertools.chain.from_iterable(votes))
    assert raised.value.code == "ratings_diverged"


def test_the_library_is_loaded_when_there_is_something_to_rate() -> None:
    program = (
        "import sys, server.opinions;"
        "from routing.duels.ratings import ratings; from routing.duels.votes import Tally;"
        "few = Tally(version_a='x', version_b='y', winner='A', votes=9);"
        "assert ratings([few]) == {};"
        "print(sorted({'pandas', 'scipy', 'statsmodels'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Votes drawn from the model itself, 60 duels among four: 95 % of the intervals should hold the strength."""
    chance = random.Random(7)
    strengths = {"a": 0.8, "b": 0.2, "c": -0.3, "d": -0.7}
    held = asked = 0
    for _ in range(150):
        votes: Counter[tuple[str, str, Winner]] = Counter()
        for _ in range(60):
            first, second = chance.choice(list(combinations(strengths, 2)))
            odds = math.exp(strengths[first] - strengths[second])
            votes[first, second, "A" if chance.random() < odds / (1 + odds) else "B"] += 1
        rated = ratings(
            Tally(version_a=a, version_b=b, winner=winner, votes=count) for (a, b, winner), count in votes.items()
        )
        for version, rating in rated.items():
            asked += 1
            held += rating.low <= MEAN + SCALE * strengths[version] <= rating.high
    assert asked > 550
    assert 0.93 <= held / asked <= 0.995


def test_each_has_won_as_often_as_its_rating_expects() -> None:
    """Where the likelihood is at its peak, the game won and the one lost against the average opponent included."""
    won = {("a", "b"): (9, 3), ("a", "c"): (14, 1), ("b", "c"): (2, 30), ("c", "d"): (40, 2)}
    tallies = [one for (first, second), (a, b) in won.items() for one in tally(first, second, a=a, b=b)]
    found = ratings(tallies)
    strengths = {version: (rating.value - MEAN) / SCALE for version, rating in found.items()}

    def expected(one: float, other: float) -> float:
        return 1 / (1 + math.exp(other - one))

    low, high = -5.0, 5.0
    while high - low > 1e-9:  # how much stronger than average they are together, which the ratings do not tell
        middle = (low + high) / 2
        surplus = sum(1 - 2 * expected(strength + middle, 0.0) for strength in strengths.values())
        low, high = (middle, high) if surplus > 0 else (low, middle)
    for version, strength in strengths.items():
        excess = 1 - 2 * expected(strength + low, 0.0)
        for (first, second), points in won.items():
            if version in (first, second):
                mine = points[0] if version == first else points[1]
                other = strengths[second if version == first else first]
                excess += mine - sum(points) * expected(strength, other)
        assert excess == pytest.approx(0, abs=0.02)
