"""What a routing decision costs: ranking, which the control loop does, choosing, which every session waits for, and a
step of the rollout; at the size of a subnet (256 neurons), and four times that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from routing.fleet.contract import Worker
from routing.leaderboard import Entry, Snapshot, ValidatorEntry
from routing.policy.choice import choose
from routing.policy.contract import Rollout, Rules, SessionNeeds
from routing.policy.live import LiveTimings
from routing.policy.ranking import rank
from routing.policy.rollout import step
from routing.scores.standings import TOTAL, MetricStanding, ModelScores, Scoreboard
from streaming.engine import EngineInfo

NEURONS = (256, 1024)
RUNS = 1000
_NOW = 1_800_000_000.0
_RULES = Rules()


def subnet(neurons: int) -> tuple[Snapshot, Scoreboard]:
    """A subnet on which one neuron in 16 validates and all others have a model that was scored."""
    rng = np.random.default_rng(neurons)
    shares = np.sort(rng.pareto(1.2, neurons))[::-1]
    shares /= shares.sum()
    validators = tuple(
        ValidatorEntry(uid=uid, hotkey=f"v{uid}", stake=1e4, last_update=1) for uid in range(0, neurons, 16)
    )
    entries = tuple(
        Entry(
            uid=uid,
            hotkey=f"h{uid}",
            model=f"miner-{uid}/model",
            commit=f"{uid:040x}",
            block=uid,
            competition="v1",
            incentive=float(share),
        )
        for uid, share in enumerate(shares)
        if uid % 16
    )
    totals = rng.uniform(0.68, 0.7, neurons)  # all within the gate, so that all are looked at
    scores = {entry.key: ModelScores(metrics={TOTAL: _standing(float(totals[entry.uid]))}) for entry in entries}
    snapshot = Snapshot(
        source="chain",
        network="test",
        netuid=21,
        competition="v1",
        block=neurons,
        taken_at=_NOW,
        entries=entries,
        validators=validators,
    )
    return snapshot, Scoreboard(models=scores)


def measure(neurons: int, runs: int = RUNS) -> dict[str, list[float]]:
    """Microseconds of each run, by what was done."""
    snapshot, scoreboard = subnet(neurons)
    ranking = rank(snapshot, scoreboard, served=(), rules=_RULES, now=_NOW)
    keys = [ranked.key for ranked in ranking if ranked.rank is not None]
    last = keys[-1]
    rollout = Rollout(stage="canary", incumbent=keys[1], candidate=keys[0], share=0.25, listed=True)
    timings = _timings(keys[:4])
    workers = [_worker(key, number) for key in keys[:4] for number in range(4)]
    full = [_worker(key, number, free=0) for key in keys[:4] for number in range(4)]

    def decide(needs: SessionNeeds, there: Sequence[Worker]) -> Callable[[int], object]:
        return lambda run: choose(
            needs,
            session_id=f"sess_{run}",
            ranking=ranking,
            workers=there,
            rollout=rollout,
            live=timings.table(_NOW),
            rules=_RULES,
        )

    auto, named = SessionNeeds(), SessionNeeds(model=last)
    return {
        "choose, auto": _timed(decide(auto, workers), runs),
        "choose, by name, the last of all": _timed(decide(named, [_worker(last, 0)]), runs),
        "choose, all full but the last of all": _timed(decide(auto, [*full, _worker(last, 0)]), runs),
        "rank": _timed(lambda _: rank(snapshot, scoreboard, served=(), rules=_RULES, now=_NOW), runs // 10),
        "step of the rollout": _timed(
            lambda _: step(rollout, ranking=ranking, workers=workers, live=timings.table(_NOW), rules=_RULES, now=_NOW),
            runs,
        ),
    }


def table() -> str:
    """The benchmark's table, in Markdown."""
    lines = ["| neurons | what | runs | p50, µs | p99, µs |", "|---|---|---|---|---|"]
    for neurons in NEURONS:
        for what, times in measure(neurons).items():
            p50, p99 = np.percentile(times, (50, 99))
            lines.append(f"| {neurons} | {what} | {len(times)} | {p50:.0f} | {p99:.0f} |")
    return "\n".join(lines)


def _timed(work: Callable[[int], object], runs: int) -> list[float]:
    times = []
    for run in range(runs):
        began = time.perf_counter_ns()
        work(run)
        times.append((time.perf_counter_ns() - began) / 1000)
    return times


def _timings(keys: Sequence[str]) -> LiveTimings:
    """With as many turns of each version as are kept."""
    timings, rng = LiveTimings(), np.random.default_rng(1)
    for key in keys:
        for gap in rng.gamma(9.0, 35.0, 200):
            timings.turn(key, float(gap), now=_NOW)
        timings.frames(key, 100_000, 10, now=_NOW)
        timings.session(key, failed=False, now=_NOW)
    return timings


def _standing(total: float) -> MetricStanding:
    return MetricStanding(
        average=total,
        low=total - 0.02,
        high=total + 0.02,
        latest=total,
        samples=12,
        validators=3,
        agreement=1.0,
        updated_at=_NOW - 60,
    )


def _worker(key: str, number: int, *, free: int = 8) -> Worker:
    info = EngineInfo(model=key, input_rate=24_000, output_rate=24_000, duplex=True)
    return Worker(
        id=f"{key}#{number}", address="ws://127.0.0.1:1", key=key, state="ready", info=info, slots=16, free=free
    )


if __name__ == "__main__":
    print(table())
