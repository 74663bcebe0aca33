from __future__ import annotations

import pytest
from statsmodels.stats.proportion import proportion_confint

from routing.feedback.aggregates import LEAST, Rated, aggregate, mean_interval


def rated(rating: int, *, version: str = "m@1", wait: float = 300.0, comment: str | None = None, **tags: int) -> Rated:
    return Rated(version=version, rating=rating, tags=tuple(tags), total_ms=wait, comment=comment)


def test_nothing_rated_is_nothing() -> None:
    assert aggregate([]) == ()


def test_versions_are_put_together_each_for_itself() -> None:
    rows = [rated(5, version="b") for _ in range(6)] + [rated(1, version="a") for _ in range(7)]
    found = aggregate(rows)
    assert [(one.version, one.ratings, one.mean) for one in found] == [("a", 7, 1.0), ("b", 6, 5.0)]


def test_a_group_tells_mean_tags_and_waits() -> None:
    rows = [rated(4, wait=100.0 + number, slow=1) for number in range(101)]
    rows += [rated(2, wait=1000.0, slow=1, wrong=1) for _ in range(LEAST)]
    (found,) = aggregate(rows)
    assert found.ratings == 106
    assert found.mean == pytest.approx((404 + 2 * LEAST) / 106, abs=1e-3)
    assert found.low is not None
    assert found.high is not None
    assert found.mean is not None
    assert 1 < found.low < found.mean < found.high < 5
    assert found.tags == {"slow": 106, "wrong": LEAST}
    assert (found.wait_by_rating[4].p50_ms, found.wait_by_rating[4].p95_ms) == (150.0, 195.0)
    assert (found.wait_by_rating[2].p50_ms, found.wait_by_rating[2].p95_ms) == (1000.0, 1000.0)
    assert set(found.wait_by_rating) == {2, 4}
    assert found.wait.ratings == 106


def test_a_small_group_tells_its_size_alone() -> None:
    (found,) = aggregate([rated(1, slow=1, comment="I am Zoe.") for _ in range(LEAST - 1)])
    assert found.ratings == LEAST - 1
    assert (found.mean, found.low, found.high) == (None, None, None)
    assert (found.wait.p50_ms, found.wait.p95_ms) == (None, None)
    assert (found.tags, found.wait_by_rating, found.comments) == ({}, {}, ())


def test_a_rating_that_few_gave_tells_no_wait() -> None:
    (found,) = aggregate([rated(5) for _ in range(10)] + [rated(1, wait=7777.0)])
    assert found.wait_by_rating[1].ratings == 1
    assert found.wait_by_rating[1].p50_ms is None
    assert "7777" not in repr(found)


def test_comments_come_in_no_order_of_their_ratings_or_arrival() -> None:
    comments = ["zebra", "apple", None, "mango", "apple"]
    rows = [rated(1 + index, comment=comment) for index, comment in enumerate(comments)]
    assert aggregate(rows)[0].comments == aggregate(reversed(rows))[0].comments == ("apple", "apple", "mango", "zebra")


@pytest.mark.parametrize("mean", [1.0, 2.2, 3.0, 5.0])
@pytest.mark.parametrize("count", [1, 5, 50, 5000])
def test_the_interval_holds_the_mean_and_stays_on_the_scale(mean: float, count: int) -> None:
    low, high = mean_interval(mean, count)
    assert 1 <= low <= mean <= high <= 5
    assert high > low  # also where all have said the same


@pytest.mark.parametrize(("ones", "count"), [(0, 5), (8, 10), (50, 100), (100, 100)])
def test_the_interval_is_wilsons(ones: int, count: int) -> None:
    expected = proportion_confint(ones, count, method="wilson")
    low, high = mean_interval(1 + 4 * ones / count, count)
    assert ((low - 1) / 4, (high - 1) / 4) == pytest.approx(expected, abs=1e-4)
