"""Versions that are out of service for a time, for twice as long each time that it happens again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from routing.fleet.contract import Worker
from routing.policy.contract import Bar, Ranked, Reason, Rollout, Rules

MOST_STRIKES = 64
"""Versions whose strikes are remembered; the oldest are forgotten first."""

MOST_DOUBLINGS = 6
"""Times that a version's wait is doubled."""

NOT_LOADED = "not_loaded"
"""Why a version is barred that did not get ready in time."""

FAILED = "worker_failed"
"""Why one is that its workers said they cannot serve."""


def bar(rollout: Rollout, key: str, reason: Reason, *, rules: Rules, now: float) -> Rollout:
    """The same, with this version barred from now on."""
    count = dict(rollout.strikes).get(key, 0) + 1
    until = now + rules.cooldown * 2 ** min(count - 1, MOST_DOUBLINGS)
    others = tuple(bar for bar in rollout.barred if bar.key != key)
    strikes = (*(strike for strike in rollout.strikes if strike[0] != key), (key, count))
    return replace(rollout, barred=(*others, Bar(key=key, until=until, reason=reason)), strikes=strikes[-MOST_STRIKES:])


def lift(rollout: Rollout, workers: Iterable[Worker], *, now: float) -> Rollout:
    """The same, without the bars that are over, and those that a worker refutes by being ready."""
    ready = {worker.key for worker in workers if worker.state == "ready"}
    refuted = {bar.key for bar in rollout.barred if bar.reason.code in (NOT_LOADED, FAILED)} & ready
    barred = tuple(bar for bar in rollout.barred if bar.until > now and bar.key not in refuted)
    return rollout if len(barred) == len(rollout.barred) else replace(rollout, barred=barred)


def bar_failed(
    rollout: Rollout, ranking: Sequence[Ranked], workers: Iterable[Worker], *, rules: Rules, now: float
) -> Rollout:
    """The same, with those barred that no worker could load: not to be loaded again and again.

    A candidate under way is left to the rollout, which gives it up.
    """
    for key, reason in failures(workers).items():
        ranked = next((ranked for ranked in ranking if ranked.key == key), None)
        under_way = key == rollout.candidate and rollout.stage in ("loading", "shadow", "canary")
        if ranked is not None and ranked.deployable and not under_way and rollout.bar(key) is None:
            rollout = bar(rollout, key, reason, rules=rules, now=now)
    return rollout


def failures(workers: Iterable[Worker]) -> dict[str, Reason]:
    """The versions all of whose workers failed, and why."""
    found: dict[str, Reason | None] = {}
    for worker in workers:
        if worker.state != "failed":
            found[worker.key] = None
        elif found.get(worker.key, worker) is not None:
            problem = worker.problem or "no reason was given"
            found[worker.key] = Reason(code=FAILED, text=f"its worker failed: {problem}")
    return {key: reason for key, reason in found.items() if reason is not None}
