"""What can be found of a rollout in one look: who is fit to serve, who challenges, how a trial goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from routing.fleet.contract import Worker, WorkerState
from routing.policy.bars import NOT_LOADED, failures
from routing.policy.contract import LiveStats, LiveTable, Ranked, Reason, Rollout, Rules
from routing.policy.gate import Gate
from routing.policy.ranking import brief
from routing.policy.verdict import verdict

PRESENT: frozenset[WorkerState] = frozenset(("ready", "overloaded", "starting"))
"""States of a worker whose model is served, or about to be."""

UNCHANGED = Reason(code="unchanged", text="nothing has changed")

_NO_WORKER = "no_worker"
_LEAST_EXPECTED = 16  # sessions, of which by chance alone less than a quarter come once in 10,000 times


class Sign(Enum):
    """What can be found. The first that holds, in this order, counts."""

    WORSENED = auto()  # the incumbent, on probation, does worse than the one before it, which can take over
    WORSE = auto()  # the candidate does worse than the incumbent, or cannot be loaded
    PARDONED = auto()  # the version that was rolled back may try again
    VACANT = auto()  # no incumbent is fit to serve, and another model can at once
    UNCHALLENGED = auto()  # nobody leads the incumbent by enough
    CHALLENGED = auto()  # another than the candidate does
    WAITS = auto()  # the candidate has not led for long enough, or there is nobody who could serve
    DOUBTED = auto()  # the gate does not let the candidate in
    UNREADY = auto()  # the candidate has no worker
    READY = auto()  # it has, and has not been heard for long enough
    HEARD = auto()  # it has been heard for long enough at this step, and there is another
    PASSED = auto()  # it has been, at the last one


@dataclass(frozen=True, slots=True)
class Finding:
    """A sign, the version that it is about, and why."""

    sign: Sign
    key: str | None = None
    reason: Reason = UNCHANGED


def find(
    rollout: Rollout,
    *,
    ranking: Sequence[Ranked],
    workers: Sequence[Worker],
    live: LiveTable,
    rules: Rules,
    now: float,
) -> Finding:
    """The first sign that holds now."""
    look = _Look(rollout, ranking, workers, live=live, rules=rules, now=now)
    return (
        look.of_probation()
        or look.of_trial()
        or look.of_vacancy()
        or look.of_challenge()
        or look.of_admission()
        or look.of_turns()
    )


class _Look:
    """One look at the ranking, the workers and the live figures."""

    def __init__(
        self,
        rollout: Rollout,
        ranking: Sequence[Ranked],
        workers: Sequence[Worker],
        *,
        live: LiveTable,
        rules: Rules,
        now: float,
    ) -> None:
        self.rollout, self.live, self.rules, self.now = rollout, live, rules, now
        self.gate = Gate.of(ranking, rollout.incumbent, rules)
        self.workers = workers
        self.failures = failures(workers)
        self.ready = {worker.key for worker in workers if worker.state in ("ready", "overloaded")}
        self.there = {worker.key for worker in workers if worker.state in PRESENT}
        self.known = {worker.key for worker in workers}
        self.leaderboard = any(r.entry is not None for r in ranking)  # there is none before it has been read
        self.excluded = {r.key: r.excluded for r in ranking if r.excluded is not None}
        self.able = {r.key: r for r in ranking if r.rank is not None and rollout.bar(r.key) is None}

    def of_probation(self) -> Finding | None:
        """Whether a new incumbent does worse than the one that it replaced did."""
        incumbent, previous = self.rollout.incumbent, self.rollout.previous
        if incumbent is None or previous not in self.able or previous not in self.ready:
            return None
        worse = verdict(self.live.get(incumbent, LiveStats()), self.rollout.baseline, self.rules)
        return None if worse is None else Finding(Sign.WORSENED, incumbent, _about(incumbent, worse))

    def of_trial(self) -> Finding | None:
        """How the candidate does, once it is being tried, or waits to be again."""
        rollout, candidate = self.rollout, self.rollout.candidate
        if candidate is None:
            return None
        if rollout.stage == "rolled_back" and rollout.bar(candidate) is None:
            reason = Reason(code="pardoned", text=f"{brief(candidate)} may try again")
            return Finding(Sign.PARDONED, candidate, reason)
        if rollout.stage in ("loading", "shadow", "canary") and candidate in self.failures:
            return Finding(Sign.WORSE, candidate, _about(candidate, self.failures[candidate]))
        worse = None
        if rollout.stage == "loading":
            worse = self._not_loaded(candidate)
        elif rollout.stage in ("shadow", "canary"):
            incumbent = self.live.get(rollout.incumbent or "", LiveStats())
            stats = self.live.get(candidate, LiveStats())
            worse = verdict(stats, incumbent, self.rules) or self._unreached(stats, incumbent)
        return None if worse is None else Finding(Sign.WORSE, candidate, _about(candidate, worse))

    def _not_loaded(self, candidate: str) -> Reason | None:
        """A candidate whose workers never get ready, and never say that they cannot."""
        if not self._out_of_patience() or candidate in self.ready or candidate not in self.known:
            return None
        return Reason(code=NOT_LOADED, text=f"no worker of it got ready within {self.rules.patience:.0f} s")

    def _unreached(self, stats: LiveStats, incumbent: LiveStats) -> Reason | None:
        """A candidate that hardly takes its share of sessions: its trial would never end, nor let others try."""
        share = self.rules.shadow_share if self.rollout.stage == "shadow" else self.rollout.share
        expected = share * incumbent.sessions
        if not self._out_of_patience() or expected < _LEAST_EXPECTED or stats.sessions >= expected / 4:
            return None
        text = f"it took {stats.sessions} of some {expected:.0f} sessions that were its share lately"
        return Reason(code="unreached", text=text)

    def _out_of_patience(self) -> bool:
        return self.now - self.rollout.since >= self.rules.patience

    def of_vacancy(self) -> Finding | None:
        """Whether the incumbent must be replaced now, and by whom; until somebody can, nothing else is looked at."""
        if (unfit := self._unfit(self.rollout.incumbent)) is None:
            return None
        if self._may_be_there_soon(unfit):
            return Finding(Sign.WAITS)
        for key, ranked in self.able.items():
            if key != self.rollout.incumbent and key in self.ready and self.gate.against_service(ranked) is None:
                return Finding(Sign.VACANT, key, _about(key, unfit, "is the best that is ready"))
        return Finding(Sign.WAITS)

    def _unfit(self, incumbent: str | None) -> Reason | None:
        """Why the incumbent cannot go on; None where it can."""
        if incumbent is None:
            return Reason(code="first", text="no model was serving")
        ranked = self.able.get(incumbent)
        if (excluded := self.excluded.get(incumbent)) is not None:
            return Reason(code=excluded.code, text=f"{brief(incumbent)} is out: {excluded.text}")
        if (bar := self.rollout.bar(incumbent)) is not None:
            return _about(incumbent, bar.reason)
        if self.rollout.listed and self.leaderboard and (ranked is None or ranked.entry is None):
            return Reason(code="gone", text=f"{brief(incumbent)} is not served any more")
        if incumbent not in self.there:
            return Reason(code=_NO_WORKER, text=f"{brief(incumbent)} has lost all its workers")
        return None

    def _may_be_there_soon(self, unfit: Reason) -> bool:
        """Whether the incumbent's workers went so lately, and so, that they may be back. Where there is none yet:
        whether a worker has yet to say what it is, for the first to speak need not be the best.
        """
        if self.rollout.incumbent is None:
            return any(not worker.key and worker.state == "starting" for worker in self.workers)
        since = self.rollout.absent_since
        if unfit.code != _NO_WORKER or since is None or self.rollout.incumbent in self.failures:
            return False
        return self.now - since < self.rules.grace

    def of_challenge(self) -> Finding | None:
        """Who challenges the incumbent, where that is news, or is to be waited for."""
        rollout, challenger = self.rollout, self._challenger()
        if challenger is None:
            reason = Reason(code="unchallenged", text="no other model leads it by enough")
            return Finding(Sign.UNCHALLENGED, None, reason)
        if challenger.key != rollout.candidate:
            text = f"{brief(challenger.key)} leads it, and must for {self.rules.dwell:.0f} s"
            return Finding(Sign.CHALLENGED, challenger.key, Reason(code="challenged", text=text))
        if rollout.stage == "watching" and self.now - rollout.since < self.rules.dwell:
            return Finding(Sign.WAITS)
        return None

    def of_admission(self) -> Finding | None:
        """Whether the candidate, who leads, may be tried, and can."""
        candidate = self.able[self.rollout.candidate or ""]
        name = brief(candidate.key)
        if (doubt := self.gate.against_promotion(candidate)) is not None:
            return Finding(Sign.DOUBTED, candidate.key, _about(candidate.key, doubt, "leads and may not serve"))
        if candidate.key not in self.ready:
            return Finding(Sign.UNREADY, candidate.key, Reason(code="loading", text=f"{name} has no ready worker yet"))
        return None

    def of_turns(self) -> Finding:
        """How far the candidate, who can be tried, has come."""
        rollout, rules, key = self.rollout, self.rules, self.rollout.candidate
        name = brief(key or "")
        if rollout.stage not in ("shadow", "canary") or self._turns_wanting() > 0:
            text = f"{name} hears some calls, unheard, for {rules.shadow_turns} turns"
            return Finding(Sign.READY, key, Reason(code="shadow", text=text))
        if (share := next_share(rollout.share, rules)) is not None:
            text = f"{name} gets {share:.0%} of new sessions, for {rules.canary_turns} turns"
            return Finding(Sign.HEARD, key, Reason(code="canary", text=text))
        return Finding(Sign.PASSED, key, Reason(code="promoted", text=f"{name} did no worse than the one before it"))

    def _challenger(self) -> Ranked | None:
        """Who leads the incumbent by enough: the candidate if it still does, else the best that the gate lets in.

        What comes with Muse can be loaded by no fleet: where no worker has it, it is no challenger.
        """
        incumbent = self.able.get(self.rollout.incumbent or "")
        if incumbent is None:
            return None
        leaders = [
            r
            for r in self.able.values()
            if _before(r, incumbent) and self._leads(r, incumbent) and (r.deployable or r.key in self.known)
        ]
        trusted = [r for r in leaders if self.gate.against_promotion(r) is None]
        leaders = trusted or leaders
        if self._nobody_loads_the_candidate():
            leaders = [r for r in leaders if r.key in self.ready] or leaders
        return next((r for r in leaders if r.key == self.rollout.candidate), leaders[0] if leaders else None)

    def _nobody_loads_the_candidate(self) -> bool:
        """Not even tries to: a list of workers is what it is, and the best of those that are on it may serve."""
        rollout = self.rollout
        waited = rollout.stage == "loading" and self.now - rollout.since >= self.rules.dwell
        return waited and rollout.candidate not in self.known

    def _leads(self, ranked: Ranked, incumbent: Ranked) -> bool:
        """By enough; a candidate under way only has to stay ahead. Off the leaderboard there is nothing to lead by."""
        if ranked.entry is None or incumbent.entry is None:
            return ranked.entry is not None
        if ranked.key == self.rollout.candidate and self.rollout.stage in ("loading", "shadow", "canary"):
            return True
        return ranked.entry.incentive - incumbent.entry.incentive >= self.rules.margin

    def _turns_wanting(self) -> int:
        """Turns that the candidate has yet to have at this step."""
        needed = self.rules.canary_turns
        if self.rollout.stage == "shadow":
            needed = self.rules.shadow_turns if self.rules.shadow_share > 0 else 0
        return needed - (turns(self.live, self.rollout.candidate) - self.rollout.turns_at)


def next_share(share: float, rules: Rules) -> float | None:
    """The step of the canary after this share; None where it was the last."""
    return next((larger for larger in rules.canary_steps if larger > share), None)


def _about(key: str, reason: Reason, what: str = "is out") -> Reason:
    """The reason, with the version that it is about."""
    return Reason(code=reason.code, text=f"{brief(key)} {what}: {reason.text}")


def _before(ranked: Ranked, other: Ranked) -> bool:
    return ranked.rank is not None and other.rank is not None and ranked.rank < other.rank


def turns(live: LiveTable, key: str | None) -> int:
    """The turns that a version has had since this process began."""
    stats = live.get(key) if key is not None else None
    return stats.total_turns if stats is not None else 0
