from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.scores.aggregate import Standing, profile_in_force, stand
from routing.scores.metrics import METRICS
from routing.scores.series import AverageRules, Scoring
from routing.scores.standings import MetricStanding, MinerStanding, ModelScores
from routing.scores.trends import TREND

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 1_790_000_000.0
RULES = AverageRules()


def series(
    validator: str, totals: Sequence[float | None], *, end: float = NOW, apart: float = 2 * HOUR
) -> list[Scoring]:
    """One validator's scorings, the last one at `end`; None for one that failed."""
    return [
        Scoring(
            id=place,
            validator=validator,
            at=end - (len(totals) - 1 - place) * apart,
            metrics={} if total is None else {"total": total},
            failure="no audio" if total is None else None,
        )
        for place, total in enumerate(totals)
    ]


def stand_one(found: Sequence[Scoring], *, now: float) -> Standing:
    return stand({"m@1": found}, now=now, rules=RULES)["m@1"]


def scores_of(*all_series: list[Scoring], now: float = NOW) -> ModelScores:
    return stand_one([scoring for one in all_series for scoring in one], now=now).scores


def total_of(*all_series: list[Scoring], now: float = NOW) -> MetricStanding:
    total = scores_of(*all_series, now=now).total
    assert total is not None
    return total


@st.composite
def scorings(draw: st.DrawFn) -> list[Scoring]:
    names = draw(st.lists(st.sampled_from(["total", "wer", "response_gap"]), min_size=1, max_size=3, unique=True))
    found = []
    for number in range(draw(st.integers(1, 30))):
        failed = draw(st.booleans())
        metrics = {name: draw(st.floats(METRICS[name].low, METRICS[name].high)) for name in names}
        found.append(
            Scoring(
                id=number,
                validator=draw(st.sampled_from("abcde")),
                at=NOW - draw(st.integers(0, 15 * 24)) * HOUR,
                metrics={} if failed else metrics,
                failure=f"failure {number}" if failed else None,
                miner=draw(st.none() | st.builds(MinerStanding, streak=st.integers(-9, 9), emission=st.floats(0, 1))),
            )
        )
    return found


@settings(deadline=None)
@given(scorings(), st.randoms(use_true_random=False))
def test_the_order_in_which_scorings_come_makes_no_difference(found: list[Scoring], chance: random.Random) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert stand_one(shuffled, now=NOW) == stand_one(found, now=NOW)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.just([]) | scorings(), max_size=3))
def test_versions_together_stand_as_each_by_itself(all_found: list[list[Scoring]]) -> None:
    found = {f"m@{number}": one for number, one in enumerate(all_found)}
    assert stand(found, now=NOW, rules=RULES) == {
        version: stand({version: one}, now=NOW, rules=RULES)[version] for version, one in found.items()
    }


@settings(deadline=None)
@given(scorings())
def test_everything_is_within_bounds(found: list[Scoring]) -> None:
    standing = stand_one(found, now=NOW)
    for name, one in standing.scores.metrics.items():
        metric = METRICS[name]
        values = [scoring.metrics.get(name, 0.0) for scoring in found if name in scoring.metrics or name == "total"]
        assert metric.low <= one.low <= one.average <= one.high <= metric.high
        assert min(values) - 1e-6 <= one.average <= max(values) + 1e-6
        assert 0.5 <= one.agreement <= 1
        assert 1 <= one.validators <= one.samples
        assert 0 < len(one.trend) <= TREND
        assert all(before[0] < after[0] for before, after in pairwise(one.trend))
        assert list(one.trend[-1]) == pytest.approx([one.updated_at, one.average], abs=1e-6)
    assert (standing.scores.failure is not None) == standing.scores.failing


@settings(deadline=None)
@given(scorings())
def test_it_stays_as_it_is_until_it_says(found: list[Scoring]) -> None:
    standing = stand_one(found, now=NOW)
    if standing.scores.metrics:
        assert stand_one(found, now=standing.lapses_at) == standing
        assert stand_one(found, now=standing.lapses_at + 1) != standing
    else:
        assert stand_one(found, now=NOW + DAY).scores == ModelScores()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_one_lying_validator_cannot_move_the_score_beyond_the_honest_range(
    honest: list[float], lies: list[float]
) -> None:
    told = [series(f"honest {place}", [value] * 3) for place, value in enumerate(honest)]
    found = total_of(*told, series("liar", lies, apart=60.0))
    assert min(honest) - 1e-9 <= found.average <= max(honest) + 1e-9


def test_how_often_a_validator_scores_gives_it_no_more_weight() -> None:
    found = total_of(series("a", [0.6]), series("b", [0.62]), series("c", [0.9] * 60, apart=60.0))
    assert found.average == 0.62
    assert (found.validators, found.samples) == (3, 62)


def test_a_single_failure_counts_as_nothing_scored() -> None:
    before, after = total_of(series("a", [0.6] * 5)), total_of(series("a", [0.6] * 5 + [None]))
    assert before.average == pytest.approx(0.6)
    assert 0.45 < after.average < 0.55
    assert after.latest == 0.0
    assert not scores_of(series("a", [0.6] * 5 + [None])).failing


def test_a_model_that_begins_to_fail_loses_its_last_good_score() -> None:
    found = scores_of(series("a", [0.6] * 50 + [None, None]))
    assert found.total is not None
    assert (found.failing, found.failure) == (True, "no audio")
    assert (found.total.average, found.total.latest, found.total.low) == (0.0, 0.0, 0.0)
    assert found.total.high < 0.1
    assert found.total.trend[-2][1] > 0.5
    assert found.total.trend[-1][1] == 0.0


def test_a_model_that_recovers_wins_its_score_back_but_for_the_failures() -> None:
    found = scores_of(series("a", [0.6] * 50 + [None] * 4 + [0.6]))
    assert not found.failing
    assert found.total is not None
    assert 0.5 < found.total.average < 0.58


def test_a_model_that_never_worked_is_failing_from_the_first() -> None:
    found = scores_of(series("a", [None]))
    assert found.failing
    assert found.total is not None
    assert (found.total.average, found.total.high) == (0.0, 1.0)  # of one scoring nothing is sure


@pytest.mark.parametrize(
    ("fail", "failing"),
    [((True,), True), ((True, False), False), ((True, True, False), True), ((True, False, False), False)],
)
def test_it_is_failing_where_most_validators_say_so(fail: tuple[bool, ...], failing: bool) -> None:
    told = [series(f"v{place}", [0.6, 0.6, None, None] if fails else [0.6] * 4) for place, fails in enumerate(fail)]
    assert scores_of(*told).failing is failing


@pytest.mark.parametrize("newest", ["a", "b", "c"])
def test_it_is_told_how_it_failed_last(newest: str) -> None:
    told = [
        Scoring(id=number, validator=name, at=NOW + (name == newest), failure=f"as {name} says")
        for number, name in enumerate("cab")
    ]
    assert stand_one(told, now=NOW + 1).scores.failure == f"as {newest} says"


def test_scores_that_nobody_renews_lapse() -> None:
    old, new = series("a", [0.6] * 4, end=NOW - 13 * DAY), series("b", [0.8] * 4)
    assert total_of(old, new).average == pytest.approx(0.7)
    assert total_of(old, new, now=NOW + 2 * DAY).average == pytest.approx(0.8)
    assert scores_of(old, new, now=NOW + 15 * DAY) == ModelScores()


def test_a_metric_that_a_validator_no_longer_measures_lapses_by_itself() -> None:
    once = Scoring(id=0, validator="a", at=NOW - 13 * DAY, metrics={"total": 0.5, "wer": 0.5})
    since = Scoring(id=1, validator="a", at=NOW, metrics={"total": 0.6})
    assert set(scores_of([once, since]).metrics) == {"total", "wer"}
    assert set(scores_of([once, since], now=NOW + 2 * DAY).metrics) == {"total"}


def test_the_trend_is_thinned_and_keeps_its_ends() -> None:
    found = total_of(series("a", [place / 1000 for place in range(500)]), series("b", [0.3] * 300))
    assert len(found.trend) == TREND
    assert found.trend[0] == (NOW - 499 * 2 * HOUR, 0.0)
    assert list(found.trend[-1]) == pytest.approx([NOW, found.average])


def test_a_trend_has_the_validators_that_had_measured_something_by_then() -> None:
    def found(number: int, validator: str, **metrics: float) -> Scoring:
        return Scoring(id=number, validator=validator, at=NOW + number, metrics={"total": 0.5, **metrics})

    told = [found(0, "a"), found(1, "b", wer=0.8), found(2, "a"), found(3, "b", wer=0.8), found(4, "a", wer=0.4)]
    wer = stand_one(told, now=NOW + 4).scores.metrics["wer"]
    assert [at - NOW for at, _ in wer.trend] == [1, 3, 4]
    assert [value for _, value in wer.trend] == pytest.approx([0.8, 0.8, 0.6])


def test_miners_are_judged_by_the_medians_of_what_was_said_last() -> None:
    def said(number: int, validator: str, miner: MinerStanding | None) -> Scoring:
        return Scoring(id=number, validator=validator, at=NOW + number, metrics={"total": 0.5}, miner=miner)

    found = stand_one(
        [
            said(0, "a", MinerStanding(emission=0.9, streak=100)),
            said(1, "a", MinerStanding(emission=0.1, streak=1, decay=0.5)),
            said(2, "b", MinerStanding(emission=0.2, streak=4)),
            said(3, "c", MinerStanding(emission=0.6, streak=5)),
            said(4, "c", None),
        ],
        now=NOW + 5,
    )
    assert found.scores.miner == MinerStanding(emission=0.2, streak=4, decay=0.5)


def test_who_disagrees_is_noted() -> None:
    told = [series(name, [value] * 6) for name, value in (("a", 0.6), ("b", 0.61), ("c", 0.95))]
    found = stand_one([scoring for one in told for scoring in one], now=NOW)
    assert found.judged == {"a": (1, 1), "b": (1, 1), "c": (1, 0)}
    assert found.scores.total is not None
    assert found.scores.total.agreement == pytest.approx(2 / 3)


def test_the_profile_that_most_validators_use_is_in_force() -> None:
    assert profile_in_force({}) is None
    assert profile_in_force({"a": "v1", "b": "v2", "c": "v1"}) == "v1"
    assert profile_in_force({"a": "v1", "b": "v2"}) == profile_in_force({"b": "v2", "a": "v1"}) == "v2"


@pytest.mark.parametrize("last", [0.6, None])
def test_of_two_scorings_at_one_time_the_later_is_the_newer(last: float | None) -> None:
    found = scores_of(series("a", [0.6, None, 0.6 if last is None else None, last], apart=0.0))
    assert found.total is not None
    assert found.total.latest == (last or 0.0)
    assert found.total.average == pytest.approx(0.3)
    assert not found.failing
    failing = scores_of(series("a", [0.6, 0.6, None, None], apart=0.0))
    assert failing.failing
    assert failing.total is not None
    assert failing.total.average == 0.0
