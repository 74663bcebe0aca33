"""What `/v1/leaderboard` costs those who are being talked to: its JSON made at the size of a subnet (256 models, every
metric with its whole trend), for the first time and again, and the longest that the loop was busy with it at once.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from benchmarks.routing import subnet
from routing.leaderboard import SourceState
from routing.policy.contract import Rollout, Rules
from routing.policy.ranking import rank
from routing.scores.metrics import METRICS
from routing.scores.standings import MetricStanding, ModelScores, Scoreboard
from routing.view import Facts
from server.board import Board, Page

MODELS = 256
RUNS = 10
_NOW = 1_800_000_000.0
_POINTS = 64
_RULES = Rules()


def facts() -> Facts:
    """A leaderboard as large as they come."""
    snapshot, _ = subnet(MODELS * 16 // 15 + 1)  # one neuron in 16 is a validator there
    rng = np.random.default_rng(1)
    scores = {
        entry.key: ModelScores(metrics={name: _standing(rng) for name in METRICS})
        for entry in snapshot.entries[:MODELS]
    }
    scoreboard = Scoreboard(models=scores)
    return Facts(
        state=SourceState(snapshot=snapshot, age=1.0, stale=False, problem=None),
        scoreboard=scoreboard,
        ranking=rank(snapshot, scoreboard, served=(), rules=_RULES, now=_NOW),
        workers=(),
        rollout=Rollout(),
        live={},
        rules=_RULES,
        serving=None,
    )


def table() -> str:
    """The measurements as Markdown. Times are of the loop's thread, whatever else the machine does."""
    first, again, page = asyncio.run(_measure())
    lines = [
        f"{MODELS} models, {len(METRICS)} metrics of {_POINTS} points: {len(page.plain) / 1e6:.1f} MB, "
        f"{len(page.gzipped) / 1e6:.1f} MB compressed.",
        "",
        "| | all of it, ms | longest piece, ms |",
        "|---|---|---|",
        f"| for the first time | {first[0]:.0f} | {first[1]:.1f} |",
        f"| again, median of {RUNS} | {again[0]:.0f} | {again[1]:.1f} |",
    ]
    return "\n".join(lines)


async def _measure() -> tuple[tuple[float, float], tuple[float, float], Page]:
    found, ticks = facts(), iter(range(1_000_000))

    async def gather() -> Facts:
        return found

    board = Board(gather, clock=lambda: 1000.0 * next(ticks))  # never fresh
    first = await _timed(board)
    runs = [await _timed(board) for _ in range(RUNS)]
    whole, piece = np.median(runs, axis=0)
    return first, (float(whole), float(piece)), await board.page()


async def _timed(board: Board) -> tuple[float, float]:
    """Milliseconds that the loop's thread worked for one page, and of the longest stretch between two of its turns."""
    stretches: list[float] = []

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            stretches.append(time.thread_time() - before)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    stretches.clear()
    before = time.thread_time()
    await board.page()
    whole = time.thread_time() - before
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return 1e3 * whole, 1e3 * max(stretches)


def _standing(rng: np.random.Generator) -> MetricStanding:
    values = rng.uniform(0, 1, _POINTS)
    return MetricStanding(
        average=float(values.mean()),
        low=0.4,
        high=0.6,
        latest=float(values[-1]),
        samples=_POINTS,
        validators=3,
        agreement=1.0,
        updated_at=_NOW,
        trend=tuple((_NOW - 3600.0 * (_POINTS - at), float(value)) for at, value in enumerate(values)),
    )


if __name__ == "__main__":
    print(table())
