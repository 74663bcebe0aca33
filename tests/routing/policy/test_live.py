import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.policy.contract import LiveStats
from routing.policy.live import FRAMES_A_TURN, MOST_VERSIONS, LiveTimings, Window

WINDOW = Window(span=100.0, turns=50, slice=10.0)


def test_of_what_nothing_is_known_nothing_is_said() -> None:
    timings = LiveTimings()
    assert timings.table(0.0) == {}
    timings.turn("a", 300.0, now=0.0)
    assert timings.table(0.0)["a"] == LiveStats(turns=1, gap_p50=300.0, gap_p95=300.0, total_turns=1)


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=50))
def test_quantiles_are_numpys(gaps: list[float]) -> None:
    timings = LiveTimings(WINDOW)
    for gap in gaps:
        timings.turn("a", gap, now=0.0)
    stats = timings.table(0.0)["a"]
    assert stats.gap_p50 == pytest.approx(np.quantile(gaps, 0.5))
    assert stats.gap_p95 == pytest.approx(np.quantile(gaps, 0.95))


def test_turns_are_forgotten_by_number_and_by_time_but_counted_for_good() -> None:
    timings = LiveTimings(WINDOW)
    for number in range(80):
        timings.turn("a", float(number), now=float(number))
    stats = timings.table(80.0)["a"]
    assert (stats.turns, stats.gap_p50, stats.total_turns) == (50, 54.5, 80)
    stats = timings.table(150.0)["a"]
    assert (stats.turns, stats.gap_p50) == (30, 64.5)
    assert timings.table(1000.0)["a"] == LiveStats(total_turns=80)


def test_late_frames_and_failures_are_shares_of_what_was_seen_lately() -> None:
    timings = LiveTimings(WINDOW)
    timings.frames("a", 100, 50, now=0.0)
    timings.session("a", failed=True, now=0.0)
    timings.frames("a", 300, 0, now=60.0)
    timings.session("a", failed=False, now=60.0)
    stats = timings.table(100.0)["a"]
    assert (stats.frames, stats.misses, stats.sessions, stats.errors) == (400, 0.125, 2, 0.5)
    stats = timings.table(101.0)["a"]
    assert (stats.frames, stats.misses, stats.sessions, stats.errors) == (300, 0.0, 1, 0.0)
    assert timings.table(1000.0)["a"] == LiveStats(total_turns=400 // FRAMES_A_TURN)


def test_sessions_without_an_answer_are_a_share_of_what_was_seen_lately() -> None:
    timings = LiveTimings(WINDOW)
    timings.session("a", failed=False, silent=True, now=0.0)
    for _ in range(3):
        timings.session("a", failed=True, now=60.0)
    assert timings.table(100.0)["a"].silent == 0.25
    assert timings.table(101.0)["a"].silent == 0.0
    assert timings.table(1000.0)["a"].silent is None


def test_what_is_forgotten_counts_no_more() -> None:
    timings = LiveTimings(WINDOW)
    timings.turn("a", 300.0, now=0.0)
    timings.turn("b", 300.0, now=0.0)
    timings.forget("a")
    timings.forget("nobody")
    assert set(timings.table(0.0)) == {"b"}


def test_of_a_model_that_takes_no_turns_the_frames_count() -> None:
    timings = LiveTimings()
    timings.frames("a", 3 * FRAMES_A_TURN, 0, now=0.0)
    timings.turn("a", 300.0, now=0.0)
    assert timings.table(0.0)["a"].total_turns == 3
    for _ in range(4):
        timings.turn("a", 300.0, now=0.0)
    assert timings.table(0.0)["a"].total_turns == 5


def test_what_is_kept_does_not_grow_with_the_traffic() -> None:
    timings = LiveTimings(WINDOW)
    for number in range(20_000):
        now = number / 100
        timings.turn("a", 1.0, now=now)
        timings.frames("a", 12, 1, now=now)
        timings.session("a", failed=False, now=now)
    version = timings._versions["a"]
    assert len(version.gaps.turns) == len(version.gaps.ordered) == 50
    assert len(version.frames.slices) <= 12
    assert len(version.sessions.slices) <= 12
    stats = timings.table(200.0)["a"]
    assert stats.misses == pytest.approx(1 / 12)
    assert 9_000 <= stats.sessions <= 10_000


def test_versions_are_kept_apart_and_bounded() -> None:
    timings = LiveTimings(WINDOW)
    timings.turn("first", 1.0, now=0.0)
    timings.turn("second", 2.0, now=0.0)
    for number in range(MOST_VERSIONS - 1):
        timings.session(f"v{number}", failed=False, now=1.0)
        timings.turn("second", 2.0, now=1.0)
    table = timings.table(1.0)
    assert len(table) == MOST_VERSIONS
    assert "first" not in table
    assert table["second"].total_turns == MOST_VERSIONS
