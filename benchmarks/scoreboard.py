"""What the scoreboard costs: a submission taken, the board made anew and kept up to date, at the size of a subnet (256
models, 5 validators, a scoring each every six hours for sixteen days), in SQLite; and what the event loop feels of it.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from routing.scores.metrics import METRICS
from routing.scores.queries import StoreRules
from routing.scores.store import ScoreStore
from routing.scores.submission import Miner, Score, Submission
from routing.storage.database import Database, open_database

MODELS = 256
VALIDATORS = 5
DAYS = 16
EVERY = 6 * 3600.0
_START = 1_800_000_000.0
_RULES = StoreRules(submissions=10**9, scorings=10**9)
_MEASURED = [name for name in METRICS if name != "utmos"][:10]


def table() -> str:
    """The measurements as Markdown."""
    with tempfile.TemporaryDirectory() as directory:
        database = open_database(f"sqlite:///{Path(directory)}/muse.db", timeout=60)
        try:
            rows = asyncio.run(_measure(database))
        finally:
            database.close()
    lines = ["| what | ms | longest stall of the loop, ms |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {took:.1f} | {stall:.1f} |" for what, took, stall in rows)])


async def _measure(database: Database) -> list[tuple[str, float, float]]:
    rng = np.random.default_rng(1)
    store = ScoreStore(database, _RULES)
    now = _START
    for _ in range(int(DAYS * 86400 / EVERY)):
        for validator in range(VALIDATORS):
            now += EVERY / VALIDATORS
            await store.add(_submission(rng, MODELS), validator=f"v{validator}", now=now)
    gc.collect()
    gc.freeze()  # as the server does when it has started
    every = _submission(rng, MODELS)
    version = every.scores[0].version

    async def board() -> None:
        await store.scoreboard(now=now)

    steps: tuple[tuple[str, Callable[[], Awaitable[object]]], ...] = (
        ("the whole board, from nothing", board),
        ("the board, nothing new", board),
        ("a submission of one model", lambda: store.add(_submission(rng, 1), validator="v0", now=now)),
        ("the board after it", board),
        ("a submission of all models", lambda: store.add(every, validator="v1", now=now)),
        ("the board after it", board),
        ("one model's history", lambda: store.history(version, "total", since=_START)),
    )
    return [await _timed(what, work) for what, work in steps]


async def _timed(what: str, work: Callable[[], Awaitable[object]]) -> tuple[str, float, float]:
    stall = 0.0

    async def watch() -> None:
        nonlocal stall
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stall = max(stall, time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    await asyncio.sleep(0.01)
    watching.cancel()
    return what, took * 1000, stall * 1000


def _submission(rng: np.random.Generator, models: int) -> Submission:
    return Submission(
        profile="benchmark",
        validator_version="1",
        block=1,
        scores=tuple(
            Score(
                version=f"miner-{model}/model@{model:040x}",
                status="ok",
                metrics={name: float(value) for name, value in zip(_MEASURED, rng.uniform(0.5, 0.6, 10), strict=True)},
                miner=Miner(emission=0.1, reputation=0.6, streak=3),
            )
            for model in range(models)
        ),
    )


if __name__ == "__main__":
    print(table())
