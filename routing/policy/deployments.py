"""Which models should be on how many workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from routing.fleet.contract import Deployment, Worker
from routing.policy.contract import Ranked, Rollout, Rules
from routing.policy.gate import Gate

HEAD_ROOM = 0.25
"""Share of a model's slots that is kept free for new sessions."""

IDLE = 0.5
"""A worker is given up where the others would be filled to no more than this."""


def wanted(
    *,
    ranking: Sequence[Ranked],
    rollout: Rollout,
    workers: Sequence[Worker],
    rules: Rules,
    most_workers: int,
    previous: Sequence[Deployment] = (),
) -> tuple[Deployment, ...]:
    """The models to keep on workers, most needed first, and how many of each. `previous`: what was wanted before.

    The incumbent, the one before it for as long as it may have to take over again, the candidate, and the best-ranked
    that the gate lets in, `Rules.top` in all. Only what is listed with its commit can be loaded; the rest is served by
    workers that are there anyway. What is barred or excluded is not wanted.
    """
    before = {deployment.key: deployment.workers for deployment in previous}
    by_key: dict[str, list[Worker]] = {}
    for worker in workers:
        by_key.setdefault(worker.key, []).append(worker)
    return tuple(
        Deployment(
            key=ranked.key,
            weights=ranked.key,
            hotkey=ranked.entry.hotkey if ranked.entry is not None else None,
            workers=workers_needed(by_key.get(ranked.key, ()), before=before.get(ranked.key, 1), most=most_workers),
        )
        for ranked in _models(ranking, rollout, rules)
    )


def workers_needed(workers: Sequence[Worker], *, before: int, most: int) -> int:
    """How many workers the sessions of one model need, from 1 to `most`; `before`: how many were wanted so far.

    More as soon as less than HEAD_ROOM is free. Fewer by one at a time, only where the rest would be filled to IDLE at
    most, and not while one is draining: so what is given up is never wanted back a moment later.
    """
    before = min(max(before, 1), most)
    there = [worker for worker in workers if worker.state in ("ready", "overloaded")]
    if not there or any(not worker.slots or worker.free is None for worker in there):
        return before
    slots = max(worker.slots or 0 for worker in there)
    sessions = sum(_sessions(worker) for worker in there)
    needed = math.ceil(sessions / (slots * (1 - HEAD_ROOM)))
    if needed > before:
        return min(needed, most)
    settled = len(there) >= before and all(worker.state != "draining" for worker in workers)
    if before > 1 and settled and sessions <= (before - 1) * slots * IDLE:
        return before - 1
    return before


def _sessions(worker: Worker) -> int:
    """Conversations on it; one whose ticks are late is as good as full."""
    slots = worker.slots or 0
    return slots if worker.state == "overloaded" else slots - (worker.free or 0)


def _models(ranking: Sequence[Ranked], rollout: Rollout, rules: Rules) -> list[Ranked]:
    """Those to be loaded, most needed first."""
    roles = [rollout.incumbent, rollout.previous]
    if rollout.stage in ("watching", "loading", "shadow", "canary"):
        roles.append(rollout.candidate)
    able = [r for r in ranking if r.deployable and r.excluded is None and rollout.bar(r.key) is None]
    needed = sorted((r for r in able if r.key in roles), key=lambda ranked: roles.index(ranked.key))
    gate = Gate.of(ranking, rollout.incumbent, rules)
    for ranked in able:
        if len(needed) >= rules.top:
            break
        if ranked.key not in roles and gate.against_service(ranked) is None:
            needed.append(ranked)
    return needed
