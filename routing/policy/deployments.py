"""Which models should be on how many workers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

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

    The incumbent, the one that it replaced for as long as it may have to take over again, the candidate, and the
    best-ranked that the gate lets in, `Rules.top` in all at least. Only what is listed with its commit can be loaded; the
    rest is served by workers that are there anyway. A model that is barred or excluded is not wanted.
    """
    before = {deployment.key: deployment.workers for deployment in previous}
    found: list[Deployment] = []
    for ranked in _models(ranking, rollout, rules):
        if ranked.entry is not None and ranked.deployable:
            mine = [worker for worker in workers if worker.key == ranked.key]
            count = workers_needed(mine, before=before.get(ranked.key, 1), most=most_workers)
            found.append(Deployment(key=ranked.key, weights=ranked.key, hotkey=ranked.entry.hotkey, workers=count))
    return tuple(found)


def workers_needed(workers: Sequence[Worker], *, before: int, most: int) -> int:
    """How many workers the sessions of one model need, from 1 to `most`; `before`: how many were wanted so far.

    More as soon as less than HEAD_ROOM is free. Fewer by one at a time, only where the rest would be filled to IDLE at
    most, and not while one is draining: so what is given up is never wanted back a moment later.
    """
    there = [worker for worker in workers if worker.state in ("ready", "overloaded")]
    slots = max((worker.slots or 0 for worker in there), default=0)
    before = min(max(before, 1), most)
    if not slots:
        return before
    sessions = sum(_sessions(worker) for worker in there)
    needed = math.ceil(sessions / (slots * (1 - HEAD_ROOM)))
    if needed > before:
        return min(needed, most)
    draining = any(worker.state == "draining" for worker in workers)
    settled = len(there) >= before and not draining
    if before > 1 and settled and sessions <= (before - 1) * slots * IDLE:
        return before - 1
    return before


def _sessions(worker: Worker) -> int:
    """Conversations on it; one whose ticks are late is as good as full."""
    slots = worker.slots or 0
    return slots if worker.state == "overloaded" or worker.free is None else slots - worker.free


def _models(ranking: Sequence[Ranked], rollout: Rollout, rules: Rules) -> Iterator[Ranked]:
    """Most needed first."""
    known = {ranked.key: ranked for ranked in ranking}
    roles = [rollout.incumbent, rollout.previous]
    if rollout.stage in ("watching", "loading", "shadow", "canary"):
        roles.append(rollout.candidate)
    gate = Gate.of(ranking, rollout.incumbent, rules)
    needed = dict.fromkeys(key for key in roles if key is not None)
    room = rules.top - len(needed)
    for ranked in ranking:
        if room > 0 and ranked.key not in needed and gate.against_service(ranked) is None:
            needed[ranked.key] = None
            room -= 1
    for key in needed:
        ranked_or_none = known.get(key)
        if ranked_or_none is not None and ranked_or_none.excluded is None and rollout.bar(key) is None:
            yield ranked_or_none
