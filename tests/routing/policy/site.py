"""A site in virtual time: a leaderboard, workers and conversations that a test alters, and a rollout that goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from routing.fleet.contract import Worker, WorkerState
from routing.policy.contract import LiveStats, LiveTable, Ranked, Rollout, Rules, Stage
from routing.policy.ranking import rank
from routing.policy.rollout import step
from routing.scores.standings import Scoreboard
from tests.routing.policy.figures import HOUSE, NOW, entry, key, scored, snapshot, worker

RULES = Rules(dwell=60.0, shadow_turns=20, canary_steps=(0.05, 0.5), canary_turns=40, probation=600.0, cooldown=1000.0)
TICK = 5.0


@dataclass
class Model:
    """What is known of one model. `incentive` None: it is not on the leaderboard; `state` None: no worker has it."""

    incentive: float | None
    score: float | None = 0.6
    state: WorkerState | None = "ready"
    failing: bool = False
    problem: str | None = None
    gap: float = 300.0
    misses: float = 0.0
    errors: float = 0.0
    turns: int = 100


@dataclass
class Site:
    models: dict[str, Model]
    house: WorkerState | None = None  # the state of the worker of what comes with Muse
    rules: Rules = RULES
    now: float = NOW
    rollout: Rollout = field(default_factory=Rollout)
    history: list[Rollout] = field(default_factory=list)

    def ranking(self) -> tuple[Ranked, ...]:
        entries = [
            entry(name, model.incentive, uid=uid)
            for uid, (name, model) in enumerate(self.models.items(), start=1)
            if model.incentive is not None
        ]
        scores = {key(name): scored(model.score, failing=model.failing) for name, model in self.models.items()}
        served = [there.key for there in self.workers()]
        return rank(snapshot(*entries), Scoreboard(models=scores), served=served, rules=self.rules, now=NOW)

    def workers(self) -> list[Worker]:
        found = [
            worker(key(name), state=model.state, problem=model.problem)
            for name, model in self.models.items()
            if model.state is not None
        ]
        return found if self.house is None else [*found, worker(HOUSE, state=self.house)]

    def live(self) -> LiveTable:
        return {
            key(name): LiveStats(
                turns=min(model.turns, 200),
                gap_p50=model.gap / 2,
                gap_p95=model.gap,
                frames=model.turns * 50,
                misses=model.misses,
                sessions=model.turns,
                errors=model.errors,
                total_turns=model.turns,
            )
            for name, model in self.models.items()
            if model.turns
        }

    def step(self, seconds: float = TICK) -> Rollout:
        self.now += seconds
        self.rollout = step(
            self.rollout,
            ranking=self.ranking(),
            workers=self.workers(),
            live=self.live(),
            rules=self.rules,
            now=self.now,
        )
        self.history.append(self.rollout)
        return self.rollout

    def talk(self, turns: int) -> None:
        """So many turns with every model, unheard or not."""
        for model in self.models.values():
            model.turns += turns

    def until(self, stage: Stage, *, most: int = 400, turns: int = 10) -> Rollout:
        """Go on, with talk, until this stage is reached."""
        for _ in range(most):
            if self.step().stage == stage:
                return self.rollout
            self.talk(turns)
        raise AssertionError(f"not {stage} but {self.rollout}")

    def go(self, steps: int, *, turns: int = 10) -> None:
        for _ in range(steps):
            self.step()
            self.talk(turns)

    def stages(self) -> list[Stage]:
        """The stages that it went through, each once."""
        found: list[Stage] = []
        for rollout in self.history:
            if not found or found[-1] != rollout.stage:
                found.append(rollout.stage)
        return found


def settled(**models: Model) -> Site:
    """A site on which the last of these has been the incumbent for long."""
    site = Site(models=models)
    site.rollout = replace(Rollout(), incumbent=key(list(models)[-1]), listed=True)
    return site


def challenged(stage: Stage) -> Site:
    """A site on which a better model, `new`, has come as far as this stage; `old` is the incumbent."""
    site = settled(new=Model(0.5), old=Model(0.3))
    site.until(stage)
    return site
