from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet.contract import Deployment, Worker, WorkerState
from routing.policy.contract import Bar, Ranked, Reason, Rollout, Rules, Stage
from routing.policy.deployments import HEAD_ROOM, wanted, workers_needed
from tests.routing.policy.figures import HOUSE, key, ranking, worker

RANKING = ranking(("ann", 0.5, 0.6), ("bob", 0.3, 0.6), ("cat", 0.2, 0.6), own=[HOUSE, "own/model@" + "1" * 40])
ANN, BOB, CAT = key("ann"), key("bob"), key("cat")


def keys(rollout: Rollout, *, models: tuple[Ranked, ...] = RANKING, rules: Rules | None = None) -> list[str]:
    found = wanted(ranking=models, rollout=rollout, workers=(), rules=rules or Rules(), most_workers=4)
    return [deployment.key for deployment in found]


def test_a_deployment_is_pinned_and_says_whose_it_must_be() -> None:
    (first, _) = wanted(ranking=RANKING, rollout=Rollout(), workers=(), rules=Rules(), most_workers=4)
    assert first == Deployment(key=ANN, weights=ANN, hotkey="hotkey-ann", workers=1)


def test_the_best_are_wanted_the_incumbent_first() -> None:
    assert keys(Rollout()) == [ANN, BOB]
    assert keys(Rollout(incumbent=CAT)) == [CAT, ANN]
    assert keys(Rollout(incumbent=HOUSE), rules=Rules(top=1)) == [ANN]
    assert keys(Rollout(), rules=Rules(top=9)) == [ANN, BOB, CAT]


@pytest.mark.parametrize(
    ("stage", "found"),
    [("watching", [CAT, BOB]), ("loading", [CAT, BOB]), ("shadow", [CAT, BOB]), ("canary", [CAT, BOB])],
)
def test_a_candidate_on_its_way_is_wanted(stage: Stage, found: list[str]) -> None:
    assert keys(Rollout(stage=stage, incumbent=CAT, candidate=BOB)) == found


def test_who_may_have_to_take_over_again_is_wanted_on_top() -> None:
    assert keys(Rollout(incumbent=ANN, previous=CAT)) == [ANN, CAT]
    assert keys(Rollout(stage="canary", incumbent=BOB, previous=CAT, candidate=ANN)) == [BOB, CAT, ANN]


def test_what_is_out_or_not_let_in_is_not_wanted() -> None:
    bar = Bar(key=ANN, until=1.0, reason=Reason(code="slower", text="slow"))
    assert keys(Rollout(incumbent=BOB, barred=(bar,))) == [BOB, CAT]
    failing = replace(RANKING[0], rank=None, excluded=Reason(code="failing", text="it fails"))
    assert keys(Rollout(incumbent=ANN), models=(*RANKING[1:], failing)) == [BOB, CAT]
    lie = ranking(("liar", 0.9, 0.1), ("ann", 0.1, 0.6))
    assert keys(Rollout(incumbent=ANN), models=lie) == [ANN]


def test_where_nothing_was_measured_the_leaderboard_alone_says_what_is_loaded() -> None:
    assert keys(Rollout(), models=ranking(("ann", 0.5, None), ("bob", 0.3, None))) == [ANN, BOB]


# --- how many workers ------------------------------------------------------------------------------------------------


def workers(*free: int, state: WorkerState = "ready") -> list[Worker]:
    """With 16 slots each, of which these are free."""
    return [worker(ANN, number=number, free=room, state=state) for number, room in enumerate(free)]


@pytest.mark.parametrize(
    ("free", "before", "most", "expected"),
    [
        ((), 1, 4, 1),  # nothing is known yet
        ((), 3, 4, 3),
        ((16,), 1, 4, 1),
        ((4,), 1, 4, 1),  # three quarters taken
        ((3,), 1, 4, 2),
        ((0,), 1, 4, 2),
        ((0,), 1, 1, 1),
        ((0, 0), 2, 4, 3),
        ((0, 0, 0, 0), 4, 4, 4),
        ((10, 10), 2, 4, 2),  # 12 sessions: a single worker would be three quarters full
        ((12, 12), 2, 4, 1),  # 8 sessions
        ((16, 16, 16), 3, 4, 2),  # one at a time
        ((16,), 3, 4, 3),  # the others are still loading
        ((16, 16), 9, 2, 1),
    ],
)
def test_workers_follow_the_sessions(free: tuple[int, ...], before: int, most: int, expected: int) -> None:
    assert workers_needed(workers(*free), before=before, most=most) == expected


def test_a_worker_whose_ticks_are_late_counts_as_full() -> None:
    assert workers_needed(workers(16, state="overloaded"), before=1, most=4) == 2


def test_nothing_is_given_up_while_a_worker_is_draining() -> None:
    there = [*workers(16, 16), worker(ANN, number=9, state="draining", free=10)]
    assert workers_needed(there, before=2, most=4) == 2


def test_workers_that_do_not_say_are_left_as_they_are() -> None:
    assert workers_needed([worker(ANN, slots=None, free=None)], before=2, most=4) == 2


def test_what_was_wanted_before_is_kept_to() -> None:
    there = workers(10, 10)
    before = (Deployment(key=ANN, weights=ANN, hotkey=None, workers=2),)
    arguments = {"ranking": RANKING, "rollout": Rollout(), "workers": there, "rules": Rules(top=1), "most_workers": 4}
    assert wanted(**arguments, previous=before)[0].workers == 2  # type: ignore[arg-type]
    assert wanted(**arguments)[0].workers == 1  # type: ignore[arg-type]


@given(st.integers(0, 200), st.integers(1, 8), st.integers(2, 32))
def test_at_any_load_the_number_comes_to_rest_with_room(sessions: int, most: int, slots: int) -> None:
    count, counts = 1, []
    for _ in range(2 * most):
        taken = [min(slots, sessions // count + (n < sessions % count)) for n in range(count)]
        there = [worker(ANN, number=n, slots=slots, free=slots - used) for n, used in enumerate(taken)]
        count = workers_needed(there, before=count, most=most)
        counts.append(count)
    assert len(set(counts[-2:])) == 1
    assert 1 <= count <= most
    assert count == most or sessions <= count * slots * (1 - HEAD_ROOM)
