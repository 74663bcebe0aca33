"""Whatever happens to the leaderboard, the scores, the workers and the conversations, in whatever order."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing.fleet.contract import WorkerState
from routing.policy.choice import UnknownModelError, choose
from routing.policy.contract import LiveStats, Rollout, SessionNeeds
from routing.policy.deployments import wanted
from routing.policy.gate import Gate
from routing.policy.verdict import verdict
from streaming.errors import EngineBusyError
from streaming.schema import from_json, to_json
from tests.routing.policy.figures import key
from tests.routing.policy.site import RULES, Model, Site

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

NAMES = ["ann", "bob", "cat"]
names = st.sampled_from(NAMES)
states = st.sampled_from(["ready", "ready", "ready", "starting", "overloaded", "draining", "lost", "failed", None])


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.site = Site(models={name: Model(0.1 * place) for place, name in enumerate(NAMES, start=1)}, house="ready")

    @rule(name=names, incentive=st.none() | st.floats(0, 1))
    def earns(self, name: str, incentive: float | None) -> None:
        self.site.models[name].incentive = incentive

    @rule(name=names, score=st.none() | st.floats(0.01, 1), failing=st.booleans())
    def scores(self, name: str, score: float | None, failing: bool) -> None:
        self.site.models[name].score, self.site.models[name].failing = score, failing

    @rule(name=names, state=states)
    def worker(self, name: str, state: WorkerState | None) -> None:
        self.site.models[name].state = state

    @rule(name=names, gap=st.sampled_from([200.0, 300.0, 320.0, 900.0]), misses=st.sampled_from([0.0, 0.01, 0.2]))
    def does(self, name: str, gap: float, misses: float) -> None:
        self.site.models[name].gap, self.site.models[name].misses = gap, misses

    @rule(name=names)
    def is_restarted(self, name: str) -> None:
        self.site.models[name].turns = 0

    @rule(name=names, steps=st.integers(1, 9))
    def leads_and_does_well(self, name: str, steps: int) -> None:
        """For a while, so that the later stages are reached at all."""
        for other, model in self.site.models.items():
            model.incentive, model.score, model.failing = (0.8 if other == name else 0.1), 0.6, False
            model.state, model.gap, model.misses = "ready", 300.0, 0.0
        for _ in range(steps):
            self.looks(RULES.dwell, 40)

    @rule(seconds=st.sampled_from([0.0, 5.0, 60.0, 700.0, 5000.0]), turns=st.integers(0, 60))
    def looks(self, seconds: float, turns: int) -> None:
        site, before = self.site, self.site.rollout
        site.talk(turns)
        stats = site.live().get(before.candidate or "", LiveStats())
        worse = verdict(stats, site.live().get(before.incumbent or "", LiveStats()), RULES)
        after = site.step(seconds)
        if before.stage in ("shadow", "canary") and worse is not None:
            assert after.stage == "rolled_back"
            assert after.bar(before.candidate or "") is not None or after.candidate == before.incumbent
        if after.incumbent != before.incumbent:
            self._took_over(before, after)

    def _took_over(self, before: Rollout, after: Rollout) -> None:
        """Who takes over can serve, and the gate lets it in; or it served before."""
        ranked = {model.key: model for model in self.site.ranking()}[after.incumbent or ""]
        assert ranked.excluded is None
        assert any(there.key == ranked.key and there.state in ("ready", "overloaded") for there in self.site.workers())
        gate = Gate.of(self.site.ranking(), before.incumbent, RULES)
        assert gate.against_service(ranked) is None or after.incumbent == before.previous
        assert after.bar(ranked.key) is None

    @invariant()
    def roles_and_stage_agree(self) -> None:
        rollout = self.site.rollout
        assert (rollout.candidate is None) == (rollout.stage == "settled")
        assert rollout.candidate is None or rollout.candidate != rollout.incumbent
        assert (rollout.share > 0) == (rollout.stage == "canary")
        assert rollout.share in (0.0, *RULES.canary_steps)
        if rollout.stage in ("watching", "gated", "loading", "shadow", "canary"):
            assert rollout.bar(rollout.candidate or "") is None

    @invariant()
    def bars_are_bounded_and_counted(self) -> None:
        rollout = self.site.rollout
        strikes = dict(rollout.strikes)
        for bar in rollout.barred:
            assert 0 < bar.until - self.site.now <= RULES.cooldown * 2 ** (strikes[bar.key] - 1)

    @invariant()
    def it_can_be_written_down(self) -> None:
        rollout = self.site.rollout
        assert from_json(Rollout, json.loads(json.dumps(to_json(rollout), allow_nan=False))) == rollout

    @invariant()
    def who_names_no_model_gets_none_that_is_out(self) -> None:
        site, ranking, workers = self.site, self.site.ranking(), self.site.workers()
        out = {model.key for model in ranking if model.excluded is not None}
        out |= {bar.key for bar in site.rollout.barred}
        for number in range(4):
            try:
                choice = choose(
                    SessionNeeds(),
                    session_id=f"sess_{number}",
                    ranking=ranking,
                    workers=workers,
                    rollout=site.rollout,
                    live=site.live(),
                    rules=RULES,
                )
            except (UnknownModelError, EngineBusyError):
                continue
            assert choice.key not in out
            assert choice.role != "candidate" or site.rollout.stage == "canary"
            assert choice.shadow is None or site.rollout.stage == "shadow"

    @invariant()
    def what_is_out_is_not_wanted(self) -> None:
        site, ranking = self.site, self.site.ranking()
        deployments = wanted(ranking=ranking, rollout=site.rollout, workers=site.workers(), rules=RULES, most_workers=4)
        keys = [deployment.key for deployment in deployments]
        able = {model.key for model in ranking if model.excluded is None and site.rollout.bar(model.key) is None}
        assert set(keys) <= able & {key(name) for name in NAMES}
        assert len(set(keys)) == len(keys) <= max(RULES.top, 3)
        for role in (site.rollout.incumbent, site.rollout.candidate):
            deployable = role in able and role in {model.key for model in ranking if model.deployable}
            assert not deployable or role in keys or site.rollout.stage in ("gated", "rolled_back")

    @invariant()
    def it_comes_to_rest(self) -> None:
        """Where nothing changes, and no time passes, a few looks find all that there is to be found."""
        twin = Site(models=self.site.models, house="ready", rollout=self.site.rollout, now=self.site.now)
        twin.step(RULES.dwell)
        for _ in range(8):
            twin.step(0.0)
        assert len(set(twin.history[-3:])) == 1


Rollouts.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestRollouts = Rollouts.TestCase
