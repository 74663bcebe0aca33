from __future__ import annotations

import pytest

from routing.scores.metrics import METRICS, Metric
from routing.scores.standings import TOTAL


def test_the_total_comes_first() -> None:
    assert next(iter(METRICS)) == TOTAL


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_each_can_be_shown_and_checked(metric: Metric) -> None:
    assert METRICS[metric.id] is metric
    assert metric.title
    assert metric.about
    assert metric.about[0] == metric.about[0].lower() or metric.about[:2].isupper()
    assert metric.low < metric.high
    assert 0 < metric.grain < (metric.high - metric.low) / 20
