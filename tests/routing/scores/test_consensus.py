from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.scores.averages import Average
from routing.scores.consensus import consensus, keep


def average(value: float, *, error: float = 0.01) -> Average:
    low, high = max(value - 2 * error, 0.0), min(value + 2 * error, 1.0)
    return Average(value=value, low=low, high=high, error=error)


AVERAGES = st.builds(average, st.floats(0, 1), error=st.floats(0, 0.3))


@settings(deadline=None)
@given(honest=st.lists(AVERAGES, min_size=2, max_size=8), liar=AVERAGES)
def test_one_liar_cannot_move_it_beyond_the_honest_range(honest: list[Average], liar: Average) -> None:
    found = consensus([*honest, liar], grain=0.005)
    values = [one.value for one in honest]
    assert min(values) <= found.value <= max(values)


@settings(deadline=None)
@given(st.data())
def test_nor_can_any_minority(data: st.DataObject) -> None:
    honest = data.draw(st.lists(AVERAGES, min_size=2, max_size=6))
    liars = data.draw(st.lists(AVERAGES, max_size=len(honest) - 1))
    found = consensus([*honest, *liars], grain=0.005)
    values = [one.value for one in honest]
    assert min(values) <= found.value <= max(values)


@settings(deadline=None)
@given(st.lists(AVERAGES, min_size=1, max_size=12), st.randoms())
def test_who_is_asked_first_makes_no_difference(averages: list[Average], chance: object) -> None:
    found = consensus(averages, grain=0.005)
    order = list(range(len(averages)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    again = consensus([averages[place] for place in order], grain=0.005)
    assert (again.value, again.low, again.high) == (found.value, found.low, found.high)
    assert [again.kept[order.index(place)] for place in range(len(order))] == list(found.kept)


@settings(deadline=None)
@given(st.lists(AVERAGES, min_size=1, max_size=12))
def test_its_interval_holds_it_and_at_least_half_agree(averages: list[Average]) -> None:
    found = consensus(averages, grain=0.005)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert 2 * sum(found.kept) >= len(averages)


@pytest.mark.parametrize(
    ("values", "kept", "value"),
    [
        ([0.6], [True], 0.6),
        ([0.2, 0.9], [True, True], 0.55),  # one of them is wrong, and nobody can tell which
        ([0.60, 0.61, 0.95], [True, True, False], 0.61),
        ([0.60, 0.61, 0.0, 0.62], [True, True, False, True], 0.605),
        ([0.60, 0.60, 0.60, 0.601], [True] * 4, 0.6),  # closer than anybody can measure
        ([0.1, 0.9, 0.95], [False, True, True], 0.9),  # of what is kept, the median would be beyond the honest .9
    ],
)
def test_outliers(values: Sequence[float], kept: Sequence[bool], value: float) -> None:
    found = consensus([average(one) for one in values], grain=0.005)
    assert list(found.kept) == list(kept)
    assert found.value == pytest.approx(value)


def test_together_they_are_as_sure_as_most_of_them_are_alone() -> None:
    unsure = [average(0.5, error=error) for error in (0.05, 0.1, 0.15)]
    found = consensus(unsure, grain=0.005)
    assert (found.value, found.low, found.high) == (0.5, unsure[1].low, unsure[1].high)


def test_who_is_unsure_is_not_called_wrong() -> None:
    unsure = [average(value, error=0.2) for value in (0.5, 0.52, 0.8)]
    assert keep(unsure, grain=0.005) == (True, True, True)
    assert keep([average(value) for value in (0.5, 0.52, 0.8)], grain=0.005) == (True, True, False)


def test_disagreement_is_doubt() -> None:
    apart = consensus([average(0.4), average(0.8)], grain=0.005)
    assert apart.low <= 0.4
    assert apart.high >= 0.8
    near = consensus([average(0.59), average(0.6), average(0.61)], grain=0.005)
    assert near.high - near.low < 0.06


def test_an_outliers_doubts_do_not_count() -> None:
    found = consensus([average(0.6), average(0.61), average(0.99)], grain=0.005)
    assert found.high < 0.7


def test_of_many_the_interval_leaves_out_the_extremes() -> None:
    many = [average(0.5 + place / 100, error=0.001) for place in range(21)]
    found = consensus(many, grain=0.005)
    # For 21 values the median's 95 % interval is from the 6th to the 16th: H. A. David, "Order Statistics", 2.5.
    assert [found.low, found.high] == pytest.approx([0.55, 0.65])
