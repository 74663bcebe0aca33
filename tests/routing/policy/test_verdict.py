import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.policy.contract import LiveStats, Rules
from routing.policy.verdict import lower_bound, verdict
from tests.routing.policy.figures import stats

RULES = Rules(slower=1.25, slack=50.0, worse_misses=0.02, worse_errors=0.02)
GOOD = stats(300.0)


def code(mine: LiveStats, other: LiveStats = GOOD) -> str | None:
    reason = verdict(mine, other, RULES)
    return None if reason is None else reason.code


def test_a_gap_is_borne_up_to_a_factor_and_some_slack() -> None:
    assert code(stats(425.0)) is None
    assert code(stats(426.0)) == "slower"


@pytest.mark.parametrize(("mine", "other"), [(19, 100), (100, 19), (0, 0)])
def test_a_few_turns_prove_nothing(mine: int, other: int) -> None:
    assert code(stats(2000.0, turns=mine), stats(300.0, turns=other)) is None


def test_a_gap_is_not_judged_where_the_other_is_not_known() -> None:
    assert code(stats(9000.0), LiveStats()) is None


def test_late_frames_count_beyond_the_others() -> None:
    assert code(stats(300.0, misses=0.021)) == "misses"
    assert code(stats(300.0, misses=0.021), stats(300.0, misses=0.01)) is None
    assert code(LiveStats(frames=499, misses=1.0)) is None
    assert code(LiveStats(frames=500, misses=1.0), LiveStats()) == "misses"
    assert code(LiveStats(frames=500, misses=0.1), LiveStats(frames=499, misses=0.5)) == "misses"


def test_failures_count_once_they_cannot_be_chance() -> None:
    assert code(LiveStats(sessions=7, errors=1.0)) is None
    assert code(LiveStats(sessions=8, errors=1.0)) == "errors"
    assert code(LiveStats(sessions=10, errors=0.1)) is None
    assert code(LiveStats(sessions=10, errors=0.2)) == "errors"
    assert code(LiveStats(sessions=10, errors=0.2), stats(300.0, errors=0.1)) is None


def quiet(share: float, sessions: int) -> LiveStats:
    return LiveStats(sessions=sessions, errors=0.0, silent=share)


def test_a_model_that_answers_nobody_does_worse() -> None:
    assert code(quiet(1.0, 8), quiet(0.2, 50)) == "silent"
    assert code(quiet(1.0, 7), quiet(0.2, 50)) is None
    assert code(quiet(1.0, 50), quiet(0.2, 7)) is None


def test_callers_who_leave_at_once_are_nobodys_fault() -> None:
    assert code(quiet(0.4, 20), quiet(0.3, 20)) is None
    assert code(quiet(1.0, 8), quiet(0.9, 50)) is None
    assert code(quiet(0.5, 1000), quiet(0.45, 1000)) is None
    assert code(quiet(0.6, 200), quiet(0.3, 10)) is None
    assert code(quiet(0.6, 200), quiet(0.3, 1000)) == "silent"
    assert code(quiet(0.7, 1000), quiet(0.45, 1000)) == "silent"


def test_of_a_model_beside_which_nothing_was_seen_silence_is_not_judged() -> None:
    assert code(quiet(1.0, 50), LiveStats()) is None
    assert code(LiveStats(sessions=50, errors=0.0), quiet(0.0, 50)) is None


def test_the_figures_are_told() -> None:
    reason = verdict(stats(500.0), GOOD, RULES)
    assert reason is not None
    assert reason.text == "its p95 gap is 500 ms; beside 300 ms at most 425 ms are borne"


@pytest.mark.parametrize(("share", "count", "low"), [(0.5, 10, 0.1842), (0.0, 10, 0.0), (1.0, 10, 0.6011)])
def test_the_bound_is_wilsons(share: float, count: int, low: float) -> None:
    assert lower_bound(share, count) == pytest.approx(low, abs=2e-4)


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_the_bound_lies_below_the_share_and_rises_with_what_was_seen(count: int, bad: int) -> None:
    share = min(bad, count) / count
    assert 0 <= lower_bound(share, count) <= share + 1e-12
    assert lower_bound(share, count * 10) >= lower_bound(share, count) - 1e-12
