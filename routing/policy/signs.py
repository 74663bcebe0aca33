"""What can be found of a rollout in one look: who is fit to serve, who challenges, how a trial goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from routing.fleet.contract import Worker
from routing.policy.bars import failures
from routing.policy.contract import LiveStats, LiveTable, Ranked, Reason, Rollout, Rules
from routing.policy.gate import Gate
from routing.policy.ranking import brief
from routing.policy.verdict import verdict

UNCHANGED = Reason(code="unchanged", text="nothing has changed")


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
        self.failures = failures(workers)
        self.ready = {worker.key for worker in workers if worker.state in ("ready", "overloaded")}
        self.there = self.ready | {worker.key for worker in workers if worker.state == "starting"}
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
        if rollout.stage in ("shadow", "canary"):
            incumbent = self.live.get(rollout.incumbent or "", LiveStats())
            worse = verdict(self.live.get(candidate, LiveStats()), incumbent, self.rules)
            return None if worse is None else Finding(Sign.WORSE, candidate, _about(candidate, worse))
        return None

    def of_vacancy(self) -> Finding | None:
        """Whether the incumbent must be replaced now, and by whom; until somebody can, nothing else is looked at."""
        if (unfit := self._unfit(self.rollout.incumbent)) is None:
            return None
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
        if ranked is None or (self.rollout.listed and self.leaderboard and ranked.entry is None):
            return Reason(code="gone", text=f"{brief(incumbent)} is not served any more")
        if incumbent not in self.there:
            return Reason(code="no_worker", text=f"{brief(incumbent)} has lost all its workers")
        return None

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
        """Who leads the incumbent by enough: the candidate if it still does, else the best that the gate lets in."""
        incumbent = self.able.get(self.rollout.incumbent or "")
        if incumbent is None:
            return None
        leaders = [r for r in self.able.values() if _before(r, incumbent) and self._leads(r, incumbent)]
        trusted = [r for r in leaders if self.gate.against_promotion(r) is None]
        leaders = trusted or leaders
        return next((r for r in leaders if r.key == self.rollout.candidate), leaders[0] if leaders else None)

    def _leads(self, ranked: Ranked, incumbent: Ranked) -> bool:
        """By enough; a candidate under way only has to stay ahead. Off the leaderboard there is nothing to lead by."""
        if ranked.entry is None or incumbent.entry is None:
            return ranked.entry is not None
        if ranked.key == self.rollout.candidate and self.rollout.stage in ("loading", "shadow", "canary"):
            return True
        return ranked.entry.incentive - incumbent.entry.incentive >= self.rules.margin

    def _turns_wanting(self) -> int:
        """Turns that the candidate has yet to have at this step."""
        needed = self.rules.shadow_turns if self.rollout.stage == "shadow" else self.rules.canary_turns
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
