"""What a rollout waits for, and for how long."""

from dataclasses import replace

import pytest

from routing.policy.bars import MOST_DOUBLINGS
from routing.policy.contract import Rollout
from routing.policy.rollout import SKEW
from tests.routing.policy.figures import HOUSE, NOW, key, worker
from tests.routing.policy.site import RULES, TICK, Model, Site, challenged, settled

NEW, OLD, BAD = key("new"), key("old"), key("bad")

# --- an incumbent that is away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["lost", "draining", None])
def test_an_incumbent_that_lost_its_workers_is_replaced_after_a_grace(state: str | None) -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    site.models["old"].state = state  # type: ignore[assignment]
    site.go(int(RULES.grace / TICK))
    assert (site.rollout.incumbent, site.rollout.absent_since) == (OLD, NOW + TICK)
    rollout = site.step()
    assert (rollout.incumbent, rollout.reason.code, rollout.absent_since) == (NEW, "no_worker", None)


def test_the_operators_own_that_cannot_be_loaded_is_not_waited_for() -> None:
    site = Site(models={"new": Model(0.2)}, house="failed")
    site.rollout = Rollout(incumbent=HOUSE)
    assert (site.step().incumbent, site.rollout.barred) == (NEW, ())


def test_a_network_that_fails_now_and_then_sets_nobody_back() -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    for _ in range(20):
        site.models["old"].state = "lost"
        site.go(3)
        site.models["old"].state = "ready"
        site.go(3)
        assert site.rollout.absent_since is None
    assert site.stages() == ["settled"]
    assert site.rollout.incumbent == OLD


def test_the_operators_own_is_not_missed_on_the_leaderboard() -> None:
    site = Site(models={"new": Model(0.2, state=None)}, house="ready")
    assert (site.step().incumbent, site.rollout.listed) == (HOUSE, False)
    site.models["new"].state = "ready"
    assert site.step().incumbent == HOUSE


def test_after_a_restart_one_that_has_not_been_seen_yet_is_waited_for() -> None:
    site = Site(models={"new": Model(0.2)})
    site.rollout = Rollout(incumbent=HOUSE)
    site.step()
    assert site.step(RULES.grace - TICK).incumbent == HOUSE
    assert site.step().incumbent == NEW


def test_a_trial_outlives_the_incumbents_absence_but_takes_no_step_in_it() -> None:
    site = challenged("canary")
    site.models["old"].state = "lost"
    site.go(5, turns=100)
    assert (site.rollout.stage, site.rollout.share) == ("canary", 0.05)
    site.models["old"].state = "ready"
    assert site.step().share == 0.5


def test_the_first_incumbent_is_chosen_once_all_workers_have_said_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(models={"new": Model(0.2)})
    silent = replace(worker("", state="starting"), info=None)
    ready = site.workers
    monkeypatch.setattr(site, "workers", lambda: [*ready(), silent])
    assert site.step().incumbent is None
    monkeypatch.setattr(site, "workers", lambda: [*ready(), replace(silent, state="lost")])
    assert site.step().incumbent == NEW


# --- trials that lead nowhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["starting", "lost"])
def test_a_candidate_that_never_gets_ready_is_given_up(state: str) -> None:
    site = settled(bad=Model(0.9, state=state), new=Model(0.5), old=Model(0.3))  # type: ignore[arg-type]
    site.until("loading")
    site.step(RULES.patience - TICK)
    assert site.rollout.stage == "loading"
    rollout = site.step()
    assert (rollout.stage, rollout.reason.code, rollout.strikes) == ("rolled_back", "not_loaded", ((BAD, 1),))
    assert (site.step().stage, site.rollout.candidate) == ("watching", NEW)


def test_one_that_gets_ready_after_all_may_try_at_once() -> None:
    site = settled(bad=Model(0.9, state="lost"), old=Model(0.3))
    site.until("loading")
    site.step(RULES.patience)
    assert site.rollout.bar(BAD) is not None
    site.models["bad"].state = "ready"
    assert site.step().bar(BAD) is None
    assert site.until("shadow").candidate == BAD


def test_one_model_alone_is_back_as_soon_as_its_worker_is() -> None:
    site = settled(old=Model(0.3))
    site.models["old"].state = "failed"
    site.go(3)
    bar = site.rollout.bar(OLD)
    assert bar is not None
    assert bar.reason.code == "worker_failed"
    site.models["old"].state = "overloaded"
    assert site.step().bar(OLD) is not None
    site.models["old"].state = "ready"
    rollout = site.step()
    assert (rollout.incumbent, rollout.barred, rollout.strikes) == (OLD, (), ((OLD, 1),))


def test_one_that_was_slow_may_not_though_it_is_ready() -> None:
    site = challenged("canary")
    site.models["new"].gap = 5000.0
    site.step()
    site.models["new"].gap = 300.0
    site.go(3)
    assert site.rollout.bar(NEW) is not None


def test_where_nobody_loads_the_leader_the_best_of_those_that_are_there_goes_on() -> None:
    site = settled(big=Model(0.9, state=None), new=Model(0.5), bad=Model(0.4), old=Model(0.3))
    site.until("loading")
    site.step(RULES.dwell - TICK)
    assert site.rollout.candidate == key("big")
    site.step()
    assert (site.rollout.stage, site.rollout.candidate, site.rollout.barred) == ("watching", NEW, ())
    site.until("settled")
    assert site.rollout.incumbent == NEW


def test_a_leader_that_nobody_loads_and_that_is_alone_is_waited_for() -> None:
    site = settled(big=Model(0.9, state=None), old=Model(0.3))
    site.until("loading")
    site.step(10 * RULES.patience)
    assert (site.rollout.stage, site.rollout.candidate, site.rollout.barred) == ("loading", key("big"), ())


@pytest.mark.parametrize(("sessions", "given_up"), [(2, True), (5, False)])
def test_a_candidate_that_hardly_takes_its_share_is_given_up(sessions: int, given_up: bool) -> None:
    site = challenged("canary")
    site.models["old"].turns = 400  # sessions, of which the candidate's share is 20
    site.models["new"].turns = sessions
    site.rollout = replace(site.rollout, turns_at=0)
    site.step(RULES.patience - TICK)
    assert site.rollout.stage == "canary"
    rollout = site.step()
    assert (rollout.stage, rollout.reason.code == "unreached") == (
        "rolled_back" if given_up else "canary",
        given_up,
    )


def test_where_hardly_anybody_calls_no_candidate_is_given_up() -> None:
    site = challenged("canary")
    site.models["old"].turns, site.models["new"].turns = 300, 0  # its share is 15
    site.step(10 * RULES.patience)
    assert site.rollout.stage == "canary"


def test_what_hears_no_calls_unheard_is_heard_at_once() -> None:
    site = settled(new=Model(0.5), old=Model(0.3))
    site.rules = replace(RULES, shadow_share=0.0)
    assert site.until("canary", turns=0).candidate == NEW


# --- clocks that jump ------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    site = settled(new=Model(0.5), old=Model(0.3))
    site.step()
    site.now -= 365 * 86400
    site.go(int(RULES.dwell / TICK) + 2)
    assert site.rollout.stage == "shadow"
    site.until("settled")
    site.now -= 365 * 86400
    site.go(2)
    assert site.rollout.probation_until - site.now <= SKEW + RULES.probation
    site.models["new"].gap = 5000.0
    site.step()
    site.now -= 365 * 86400
    site.step()
    assert site.rollout.barred[0].until - site.now <= SKEW + RULES.cooldown * 2**MOST_DOUBLINGS


def test_nor_does_it_lengthen_a_grace() -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    site.models["old"].state = "lost"
    site.step()
    site.now -= 365 * 86400
    site.go(int(RULES.grace / TICK) + 1)
    assert site.rollout.incumbent == NEW


def test_clocks_of_two_gateways_may_differ_by_a_little() -> None:
    site = challenged("canary")
    site.until("settled")
    for _ in range(3):
        before = site.rollout
        site.step(-TICK)
        assert site.rollout == before
