import itertools
import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.fleet.contract import Worker
from routing.policy.bars import MOST_DOUBLINGS
from routing.policy.contract import Rollout, Rules, Stage
from routing.policy.ranking import rank
from routing.policy.rollout import ROLLOUT, Act, step
from routing.policy.signs import Sign
from routing.scores.standings import Scoreboard
from streaming.schema import from_json, to_json
from tests.routing.policy.figures import HOUSE, NOW, house, key, snapshot, worker
from tests.routing.policy.site import RULES, TICK, Model, Site, challenged, settled

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

NEW, OLD, BAD = key("new"), key("old"), key("bad")


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_is_total() -> None:
    assert set(ROLLOUT) == set(itertools.product(get_args(Stage), Sign))


def test_nothing_is_done_without_saying_what() -> None:
    moves = [(before, after, act) for (before, _), (after, act) in ROLLOUT.items()]
    assert all(act is not Act.NOTHING for before, after, act in moves if before != after)


def test_a_model_is_heard_only_after_it_was_loaded_and_promoted_only_after_it_was_tried() -> None:
    for (before, _), (after, act) in ROLLOUT.items():
        assert after != "canary" or before in ("shadow", "canary")
        assert after != "shadow" or before in ("watching", "gated", "loading", "shadow")
        assert act is not Act.PROMOTE or before in ("shadow", "canary")


# --- a candidate's way -----------------------------------------------------------------------------------------------


def test_the_first_incumbent_is_the_best_that_is_ready() -> None:
    site = Site(models={"big": Model(0.5, state="starting"), "new": Model(0.4), "old": Model(0.3)})
    rollout = site.step()
    assert (rollout.stage, rollout.incumbent, rollout.listed) == ("settled", NEW, True)
    assert rollout.reason.code == "first"


def test_of_several_at_the_first_start_a_poorly_measured_leader_is_passed_over() -> None:
    assert Site(models={"new": Model(0.9, score=0.1), "old": Model(0.1)}).step().incumbent == OLD
    assert Site(models={"new": Model(0.9, score=None), "old": Model(0.1)}).step().incumbent == OLD
    assert Site(models={"new": Model(0.9, score=None), "old": Model(0.1, score=None)}).step().incumbent == NEW


def test_without_anybody_who_could_serve_nothing_is_decided() -> None:
    assert Site(models={"new": Model(0.5, state="starting")}).step() == Rollout()
    assert Site(models={}).step() == Rollout()


def test_a_model_that_leads_and_does_well_takes_over_step_by_step() -> None:
    site = settled(new=Model(0.5, state=None), old=Model(0.3))
    assert site.step().stage == "watching"
    site.go(3)
    assert site.until("loading").incumbent == OLD
    site.go(10)
    assert site.rollout.stage == "loading"
    site.models["new"].state = "starting"
    site.go(10)
    site.models["new"].state = "ready"
    assert site.until("shadow").share == 0.0
    assert site.until("canary").share == 0.05
    final = site.until("settled")
    assert (final.incumbent, final.candidate, final.previous) == (NEW, None, OLD)
    assert site.stages() == ["watching", "loading", "shadow", "canary", "settled"]
    assert [r.share for r in site.history if r.stage == "canary"] == [0.05] * 5 + [0.5] * 4


def test_nothing_goes_on_where_nobody_talks() -> None:
    for stage in ("shadow", "canary"):
        site = challenged(stage)
        before = site.rollout
        site.go(1000, turns=0)
        assert replace(site.rollout, since=before.since) == before


def test_steps_can_be_left_out() -> None:
    site = settled(new=Model(0.5), old=Model(0.3))
    site.rules = replace(RULES, dwell=0.0, shadow_turns=0, canary_steps=())
    site.go(4, turns=0)
    assert site.stages() == ["watching", "shadow", "settled"]
    assert site.rollout.incumbent == NEW


def test_what_no_fleet_can_load_challenges_nobody_unless_a_worker_has_it() -> None:
    def looked(*workers: Worker) -> Rollout:
        served = [there.key for there in workers]
        ranking = rank(snapshot(house(1.0)), Scoreboard(), served=served, rules=RULES, now=NOW)
        return step(Rollout(incumbent=OLD), ranking=ranking, workers=workers, live={}, rules=RULES, now=NOW)

    assert looked(worker(OLD)).candidate is None
    assert looked(worker(OLD), worker(HOUSE)).candidate == HOUSE


def test_a_lead_within_the_margin_is_none() -> None:
    site = settled(new=Model(0.31), old=Model(0.3))
    site.go(100)
    assert site.stages() == ["settled"]


def test_a_lead_must_last() -> None:
    site = settled(new=Model(0.5), old=Model(0.3))
    for _ in range(20):
        site.models["new"].incentive = 0.5
        site.go(8)
        site.models["new"].incentive = 0.31
        site.go(2)
    assert set(site.stages()) == {"watching", "settled"}
    assert site.rollout.incumbent == OLD


def test_once_it_is_tried_a_candidate_only_has_to_stay_ahead() -> None:
    site = challenged("canary")
    site.models["new"].incentive = 0.301
    site.go(2)
    assert site.rollout.stage == "canary"
    site.models["new"].incentive = 0.299
    assert site.step().stage == "settled"
    assert (site.rollout.candidate, site.rollout.share, site.rollout.incumbent) == (None, 0.0, OLD)


def test_whoever_comes_after_does_not_cut_a_candidates_trial_short() -> None:
    site = challenged("canary")
    site.models["bad"] = Model(0.9)
    assert site.until("settled").incumbent == NEW
    assert site.step().candidate == BAD


def test_a_candidate_that_loses_its_workers_is_loaded_and_tried_anew() -> None:
    site = challenged("canary")
    site.models["new"].state = "lost"
    assert (site.step().stage, site.rollout.share) == ("loading", 0.0)
    site.models["new"].state = "ready"
    site.step()
    assert site.rollout.stage == "shadow"


def test_what_the_operator_serves_off_the_leaderboard_gives_way_to_what_is_listed_and_challenges_nobody() -> None:
    site = Site(models={"new": Model(0.01), "old": Model(None)}, house="ready")
    site.rollout = Rollout(incumbent=HOUSE)
    assert site.step().candidate == NEW
    site = Site(models={"old": Model(None)}, house="ready")
    site.rollout = Rollout(incumbent=HOUSE)
    site.go(10)
    assert site.stages() == ["settled"]


# --- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "code"), [(0.1, "low_score"), (None, "unscored")])
def test_a_lie_on_the_leaderboard_promotes_nobody(score: float | None, code: str) -> None:
    site = settled(bad=Model(0.9, score=score), old=Model(0.3))
    site.go(300)
    assert site.stages() == ["watching", "gated"]
    assert (site.rollout.candidate, site.rollout.incumbent, site.rollout.reason.code) == (BAD, OLD, code)


def test_a_lie_does_not_stand_in_an_honest_models_way() -> None:
    site = settled(bad=Model(0.9, score=0.1), new=Model(0.5), old=Model(0.3))
    site.go(300)
    assert site.rollout.incumbent == NEW
    assert BAD not in {rollout.incumbent for rollout in site.history}
    assert "shadow" not in {rollout.stage for rollout in site.history if rollout.candidate == BAD}


def test_who_is_gated_goes_on_once_the_score_is_there() -> None:
    site = settled(new=Model(0.5, score=None), old=Model(0.3))
    site.until("gated")
    site.models["new"].score = 0.1
    assert site.step().reason.code == "low_score"
    site.models["new"].score = 0.6
    assert site.step().stage == "shadow"


def test_a_score_that_falls_during_the_trial_ends_it() -> None:
    site = challenged("canary")
    site.models["new"].score = 0.2
    assert (site.step().stage, site.rollout.share) == ("gated", 0.0)


# --- rolling back ----------------------------------------------------------------------------------------------------

WORSE = [("gap", 426.0, "slower"), ("misses", 0.03, "misses"), ("errors", 0.1, "errors")]


@pytest.mark.parametrize(("what", "value", "code"), WORSE)
@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_a_candidate_that_does_worse_is_rolled_back_within_a_step(
    stage: Stage, what: str, value: float, code: str
) -> None:
    site = challenged(stage)
    setattr(site.models["new"], what, value)
    rollout = site.step()
    assert (rollout.stage, rollout.share, rollout.incumbent, rollout.candidate) == ("rolled_back", 0.0, OLD, NEW)
    bar = rollout.bar(NEW)
    assert bar is not None
    assert (bar.until, bar.reason.code) == (site.now + RULES.cooldown, code)
    assert rollout.strikes == ((NEW, 1),)


@pytest.mark.parametrize(("what", "value", "code"), WORSE)
def test_a_new_incumbent_that_does_worse_gives_way_to_the_one_before_it(what: str, value: float, code: str) -> None:
    site = challenged("canary")
    site.until("settled")
    assert site.rollout.baseline.gap_p95 == 300.0
    site.models["old"].turns = 0  # nobody talks to it any more
    site.go(20)
    setattr(site.models["new"], what, value)
    rollout = site.step()
    assert (rollout.stage, rollout.incumbent, rollout.candidate) == ("rolled_back", OLD, NEW)
    assert (rollout.previous, rollout.reason.code) == (None, code)
    assert rollout.bar(NEW) is not None


def test_after_its_probation_an_incumbent_is_held_against_nobody() -> None:
    site = challenged("canary")
    site.until("settled")
    site.go(int(RULES.probation / TICK))
    assert site.rollout.previous is None
    site.models["new"].gap = 5000.0
    site.go(10)
    assert site.rollout.incumbent == NEW


def test_nobody_comes_back_who_could_not_serve() -> None:
    site = challenged("canary")
    site.until("settled")
    site.models["new"].gap = 5000.0
    site.models["old"].state = "lost"
    site.go(3)
    assert site.rollout.incumbent == NEW
    site.models["old"].state = "ready"
    assert site.step().incumbent == OLD


def test_what_was_rolled_back_tries_again_later_and_waits_twice_as_long_each_time() -> None:
    site = challenged("canary")
    waits = []
    for _ in range(MOST_DOUBLINGS + 3):
        site.models["new"].gap = 5000.0
        bar = site.step().bar(NEW)
        assert bar is not None
        waits.append((bar.until - site.now) / RULES.cooldown)
        site.models["new"].gap = 300.0
        site.now = bar.until - TICK
        site.step(TICK / 2)
        assert site.rollout.stage == "rolled_back"
        assert site.step().stage == "settled"
        site.until("canary")
    assert waits == [2**number for number in range(MOST_DOUBLINGS + 1)] + [2**MOST_DOUBLINGS] * 2


def test_while_one_is_barred_another_may_try() -> None:
    site = challenged("canary")
    site.models["new"].gap = 5000.0
    site.step()
    site.models["bad"] = Model(0.4)
    assert (site.step().stage, site.rollout.candidate) == ("watching", BAD)
    assert site.rollout.bar(NEW) is not None


def test_after_a_restart_turns_count_anew() -> None:
    site = challenged("shadow")
    site.models["new"].turns = 15
    assert (site.step().stage, site.rollout.turns_at) == ("shadow", 0)
    site.models["new"].turns = 20
    assert site.step().stage == "canary"


# --- models that cannot go on ----------------------------------------------------------------------------------------


def test_an_incumbent_that_vanished_from_the_chain_is_replaced_at_once() -> None:
    site = settled(big=Model(0.5, score=0.6), old=Model(0.3))
    site.rollout = Rollout(incumbent=key("big"), listed=True)
    site.models["big"].incentive = None  # its worker is still there
    rollout = site.step()
    assert (rollout.stage, rollout.incumbent, rollout.reason.code) == ("settled", OLD, "gone")


def test_before_the_leaderboard_has_been_read_the_incumbent_stays() -> None:
    site = settled(new=Model(None), old=Model(None))
    site.go(3)
    assert site.rollout.incumbent == OLD
    site.models["new"].incentive, site.models["old"].incentive = 0.31, 0.3
    site.go(3)
    assert site.stages() == ["settled"]


def test_an_incumbent_that_begins_to_fail_is_replaced_at_once() -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    site.models["old"].failing = True
    rollout = site.step()
    assert (rollout.incumbent, rollout.reason.code) == (NEW, "failing")


def test_an_incumbent_whose_workers_failed_is_replaced_at_once() -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    site.models["old"].state = "failed"
    assert site.step().incumbent == NEW


@pytest.mark.parametrize("state", ["starting", "overloaded"])
def test_an_incumbent_whose_workers_are_on_their_way_is_waited_for(state: str) -> None:
    site = settled(new=Model(0.2), old=Model(0.3))
    site.models["old"].state = state  # type: ignore[assignment]
    assert site.step().incumbent == OLD


def test_an_incumbent_that_nobody_can_replace_stays_until_somebody_can() -> None:
    site = settled(new=Model(0.2, state="starting"), old=Model(0.3, state="lost"))
    site.go(3)
    site.step(RULES.grace)
    assert (site.rollout.incumbent, site.stages()) == (OLD, ["settled"])
    site.models["new"].state = "ready"
    assert site.step().incumbent == NEW


def test_a_lie_does_not_fill_a_vacancy() -> None:
    site = Site(models={"bad": Model(0.9, score=0.1), "old": Model(0.3, state="lost")}, house="ready")
    site.rollout = Rollout(incumbent=OLD, listed=True)
    site.step()
    assert site.step(RULES.grace).incumbent == HOUSE


def test_a_candidate_that_does_worse_does_not_fill_a_vacancy() -> None:
    site = challenged("canary")
    site.house = "ready"
    site.models["new"].gap = 5000.0
    site.models["old"].state = "lost"
    site.go(2)
    site.step(RULES.grace)
    assert site.rollout.incumbent == HOUSE


def test_a_candidate_whose_checkpoint_is_refused_is_barred_and_the_next_one_tries() -> None:
    site = settled(bad=Model(0.9, state=None), new=Model(0.5), old=Model(0.3))
    site.until("loading")
    site.models["bad"].state, site.models["bad"].problem = "failed", "sha256 of model.safetensors differs"
    rollout = site.step()
    assert (rollout.stage, rollout.candidate, rollout.strikes) == ("rolled_back", BAD, ((BAD, 1),))
    assert "sha256 of model.safetensors differs" in rollout.reason.text
    site.models["bad"].state = None  # the fleet drops what is not wanted
    assert (site.step().stage, site.rollout.candidate) == ("watching", NEW)


def test_any_version_that_no_worker_can_load_is_barred_and_only_once() -> None:
    site = settled(bad=Model(0.1, state="failed", problem="no such repository"), old=Model(0.3))
    site.go(5)
    assert [bar.key for bar in site.rollout.barred] == [BAD]
    assert site.rollout.strikes == ((BAD, 1),)


# --- always ----------------------------------------------------------------------------------------------------------


def test_what_is_decided_survives_being_written_down() -> None:
    site = challenged("canary")
    site.until("settled")
    site.models["new"].gap = 5000.0
    site.go(3)
    for rollout in site.history:
        written = json.dumps(to_json(rollout), allow_nan=False)
        assert from_json(Rollout, json.loads(written)) == rollout


def test_where_nothing_changes_nothing_is_written() -> None:
    site = settled(new=Model(0.31), old=Model(0.3))
    site.step()
    before = site.rollout
    site.go(50)
    assert site.rollout is before or site.rollout == before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 40)), max_size=40))
def test_noise_within_the_margin_promotes_nobody(noise: list[tuple[float, float, int]]) -> None:
    site = settled(new=Model(0.3), old=Model(0.3))
    for one, other, steps in noise:
        site.models["new"].incentive = 0.3 + one * RULES.margin * 0.99
        site.models["old"].incentive = 0.3 + other * RULES.margin * 0.99
        site.go(steps, turns=50)
    assert {rollout.incumbent for rollout in site.history} <= {OLD}


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 300), st.integers(0, 60))
def test_a_model_that_gets_slow_whenever_it_leads_is_promoted_less_and_less_often(after: int, turns: int) -> None:
    """However it times it: within T it is promoted at most log2(T / cooldown) + 2 times."""
    site = settled(new=Model(0.5), old=Model(0.3))
    site.rules = replace(RULES, dwell=10.0, shadow_turns=1, canary_turns=1)
    promoted, since, end = 0, 0.0, site.now + 32 * RULES.cooldown
    while site.now < end:
        before = site.rollout.incumbent
        site.step(40.0)
        if site.rollout.incumbent == NEW != before:
            promoted, since = promoted + 1, site.now
        slow = site.rollout.incumbent == NEW and site.now - since >= min(after, RULES.probation - 80)
        site.models["new"].gap = 5000.0 if slow else 300.0
        site.talk(turns + 1)
    assert 1 <= promoted <= 5 + 2


def test_rules_by_default_are_those_of_the_settings() -> None:
    from routing.settings import RoutingSettings

    assert RoutingSettings().rules() == Rules()
