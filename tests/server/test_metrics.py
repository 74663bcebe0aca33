import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from server.metrics import MOST_CODES, Metrics
from server.stalls import sample_stalls
from streaming.observations import BargeInMeasured, SpeculationEnded, TurnMeasured
from streaming.timeline import PARTS, Timeline
from tests.waiting import until

MS = 1_000_000


def test_the_parts_of_a_turn_add_up_to_the_whole() -> None:
    metrics = Metrics()
    timeline = Timeline(0)
    for number, part in enumerate(PARTS, start=1):
        timeline.mark(part, number * 50 * MS)
    metrics.observe(TurnMeasured(response_id="r", latency=timeline.latency()))
    value = metrics.registry.get_sample_value
    parts = [value("muse_turn_part_seconds_sum", {"part": part}) or 0 for part in PARTS]
    assert sum(parts) == pytest.approx(value("muse_turn_latency_seconds_sum"))
    assert value("muse_turn_latency_seconds_count") == 1


def test_a_barge_in_has_three_steps() -> None:
    metrics = Metrics()
    metrics.observe(
        BargeInMeasured(
            response_id="r", outcome="interrupted", onset=0, ducked=30 * MS, decided=200 * MS, last_frame=190 * MS
        )
    )
    metrics.observe(
        BargeInMeasured(response_id="r", outcome="dismissed", onset=0, ducked=None, decided=100 * MS, last_frame=None)
    )
    value = metrics.registry.get_sample_value
    assert value("muse_barge_in_seconds_sum", {"step": "onset_to_duck"}) == pytest.approx(0.03)
    assert value("muse_barge_in_seconds_count", {"step": "onset_to_decision"}) == 2
    assert value("muse_barge_in_seconds_sum", {"step": "decision_to_last_frame"}) == 0
    assert value("muse_barge_ins_total", {"outcome": "dismissed"}) == 1


def test_speculation_used_and_wasted() -> None:
    metrics = Metrics()
    for used in (True, False, False):
        metrics.observe(SpeculationEnded(response_id="r", used=used))
    value = metrics.registry.get_sample_value
    assert value("muse_speculations_total", {"outcome": "used"}) == 1
    assert value("muse_speculations_total", {"outcome": "wasted"}) == 2


def test_an_engine_that_names_its_failures_as_it_likes_makes_no_more_series() -> None:
    metrics = Metrics()
    for _ in range(2):
        for number in range(MOST_CODES + 20):
            metrics.engine_failed(f"code_{number}")
    samples = [s for family in metrics.engine_errors.collect() for s in family.samples if s.name.endswith("_total")]
    counted = {sample.labels["code"]: sample.value for sample in samples}
    assert len(counted) == MOST_CODES + 1
    assert (counted["code_0"], counted["other"]) == (2, 40)


def test_two_servers_in_one_process_do_not_share() -> None:
    registry = CollectorRegistry()
    one, two = Metrics(registry), Metrics()
    one.underruns.inc()
    assert b"muse_underruns_total 1.0" in generate_latest(registry)
    assert b"muse_underruns_total 0.0" in generate_latest(two.registry)


async def test_a_blocked_loop_is_seen() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("stall", "", buckets=(0.04, 10), registry=registry)
    task = asyncio.create_task(sample_stalls(histogram))
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - a stall is what is measured
    await until(lambda: registry.get_sample_value("stall_count"))
    assert (registry.get_sample_value("stall_sum") or 0) > 0.05
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
