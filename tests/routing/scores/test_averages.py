from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.scores.averages import Average, MovingAverages, standard_errors
from routing.scores.metrics import METRICS, Metric

TOTAL = METRICS["total"]
HOUR = 3600.0
HALF_LIFE = 48 * HOUR


def averages(*all_values: list[tuple[float, float]]) -> MovingAverages:
    """One average for each list of times and values."""
    found = MovingAverages((len(all_values),), HALF_LIFE)
    for step in range(max(map(len, all_values))):
        new = [values[step] if step < len(values) else (math.inf, math.nan) for values in all_values]
        found.add(*np.array(new).T)
    return found


def averaged(values: list[tuple[float, float]], metric: Metric = TOTAL) -> Average:
    return averages(values).result((0,), metric)


def weighted(values: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The mean, its standard error and the effective number of values, from their definitions."""
    weights = [2 ** ((at - values[-1][0]) / HALF_LIFE) for at, _ in values]
    total, squares = sum(weights), sum(weight**2 for weight in weights)
    mean = sum(weight * value for weight, (_, value) in zip(weights, values, strict=True)) / total
    spread = sum(weight * (value - mean) ** 2 for weight, (_, value) in zip(weights, values, strict=True))
    effective = total**2 / squares
    return mean, math.sqrt(spread / (total - squares / total) / effective), effective


def test_a_value_weighs_half_of_one_a_half_life_newer() -> None:
    assert averaged([(0.0, 0.0), (HALF_LIFE, 0.9)]).value == pytest.approx(0.6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=3, max_size=40))
def test_it_is_what_the_definitions_say(values: list[tuple[float, float]]) -> None:
    values.sort()
    found = averaged(values)
    mean, error, effective = weighted(values)
    assert found.value == pytest.approx(mean, abs=1e-9)
    assert TOTAL.low <= found.low <= found.value <= found.high <= TOTAL.high
    if effective > 1.3:
        assert found.error == pytest.approx(max(error, TOTAL.grain / math.sqrt(effective)), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=1, max_size=8), min_size=2, max_size=5)
)
def test_series_side_by_side_have_nothing_to_do_with_each_other(all_values: list[list[tuple[float, float]]]) -> None:
    for values in all_values:
        values.sort()
    found = averages(*all_values)
    assert found.samples.tolist() == [len(values) for values in all_values]
    assert found.latest.tolist() == [values[-1][1] for values in all_values]
    assert found.at.tolist() == [values[-1][0] for values in all_values]
    for place, values in enumerate(all_values):
        assert found.result((place,), TOTAL) == averaged(values)


def test_what_is_forgotten_begins_anew() -> None:
    found = averages([(0.0, 0.1), (1.0, 0.9)], [(0.0, 0.1), (1.0, 0.9)])
    found.forget(np.array([True, False]))
    assert found.at.tolist() == [-math.inf, 1.0]
    found.add(np.array(2.0), np.array([0.3, math.nan]))
    assert found.samples.tolist() == [1, 2]
    assert found.result((0,), TOTAL) == averaged([(2.0, 0.3)])
    assert found.result((1,), TOTAL) == averaged([(0.0, 0.1), (1.0, 0.9)])


def test_of_one_value_nothing_is_sure_but_the_range() -> None:
    for values in ([(0.0, 0.6)], [(0.0, 0.1), (1e9, 0.6)]):
        found = averaged(values)
        assert [found.value, found.low, found.high] == pytest.approx([0.6, 0.0, 1.0])


def test_values_that_agree_leave_some_doubt() -> None:
    found = averaged([(hour * HOUR, 0.6) for hour in range(4)])
    assert 0.58 < found.low < 0.6 < found.high < 0.62


def test_more_values_are_surer_and_old_ones_lend_no_certainty() -> None:
    chance = random.Random(3)

    def width(count: int, apart: float) -> float:
        found = averaged([(n * apart, 0.6 + chance.gauss(0, 0.05)) for n in range(count)])
        return found.high - found.low

    assert width(5, HOUR) > width(20, HOUR) > width(60, HOUR)
    assert width(60, HOUR) < width(60, 48 * HOUR)


@pytest.mark.parametrize("count", [3, 10, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says(count: int) -> None:
    chance = random.Random(count)
    trials = 600
    held = 0
    for _ in range(trials):
        found = averaged([(n * 2 * HOUR, 0.5 + chance.gauss(0, 0.05)) for n in range(count)])
        held += found.low <= 0.5 <= found.high
    assert 0.925 < held / trials < 0.98


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(0.5, 164.6), (1, 12.706), (1.5, 6.017), (2.5, 3.575), (5, 2.571), (14, 2.145), (1e4, 1.96)],
)
def test_students_t_on_the_safe_side(freedom: float, quantile: float) -> None:
    assert quantile * 0.975 <= standard_errors(freedom) <= quantile * 1.2


def test_metrics_with_other_ranges_keep_within_them() -> None:
    gap: Metric = METRICS["response_gap"]
    found = averaged([(0.0, -10_000.0), (1.0, 60_000.0)], gap)
    assert (found.low, found.high) == (gap.low, gap.high)
