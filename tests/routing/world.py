"""A gateway's routing in virtual time, and what it rests on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from routing.control import Control
from routing.leaderboard import Entry, Snapshot, SourceState
from routing.policy.contract import Rules, SessionNeeds
from routing.router import Router
from routing.scores.standings import Scoreboard
from streaming.errors import EngineError
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine, FakeFleet, router_for

RULES = Rules(dwell=60, min_samples=0, shadow_turns=0, canary_steps=(0.5,), canary_turns=20, least_turns=5)
OLD, NEW = "acme/old@" + "0" * 40, "acme/new@" + "1" * 40


def snapshot(*keys: str, taken_at: float) -> Snapshot:
    """Miners' models, best first."""
    entries = tuple(
        Entry(
            uid=uid,
            hotkey=f"5Hotkey{uid}",
            model=key.partition("@")[0],
            commit=key.partition("@")[2],
            block=uid,
            competition=None,
            incentive=1 / (uid + 2),
        )
        for uid, key in enumerate(keys)
    )
    return Snapshot(
        source="chain", network="test", netuid=1, competition=None, block=1, taken_at=taken_at, entries=entries
    )


class FakeSource:
    """A chain that can be out, and one that hangs."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.out = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False
        self._state = SourceState(snapshot=None, age=None, stale=True, problem=None)

    async def refresh(self, *, now: float) -> SourceState:
        await self.gate.wait()
        if self.out:
            known = self._state.snapshot
            age = now - known.taken_at if known else None
            self._state = replace(
                self._state,
                age=age,
                stale=age is None or age > 1800,
                problem="the chain does not answer",
                failures=self._state.failures + 1,
            )
        else:
            self._state = SourceState(snapshot=snapshot(*self.keys, taken_at=now), age=0.0, stale=False, problem=None)
        return self._state

    async def close(self) -> None:
        self.closed = True


class Store:
    """Scores and states, in memory, behind a database that can be down."""

    def __init__(self) -> None:
        self.down = False
        self.states: dict[str, tuple[str, int]] = {}

    async def scoreboard(self, *, now: float, validators: Collection[str] | None = None) -> Scoreboard:
        self._ask()
        return Scoreboard()

    async def load(self, name: str) -> tuple[dict[str, Any], int] | None:
        self._ask()
        stored = self.states.get(name)
        return None if stored is None else (json.loads(stored[0]), stored[1])

    async def save(self, name: str, value: dict[str, Any], *, revision: int) -> bool:
        self._ask()
        if self.states.get(name, ("", 0))[1] != revision:
            return False
        self.states[name] = (json.dumps(value, allow_nan=False), revision + 1)
        return True

    def _ask(self) -> None:
        if self.down:
            raise EngineError("the database does not answer", code="database_unavailable")


class World:
    """A gateway's routing in virtual time."""

    def __init__(
        self,
        *engines: FakeEngine,
        source: FakeSource | None = None,
        store: Store | None = None,
        most_workers: int = 1,
    ) -> None:
        self.time = 1_000_000.0
        self.source = source or FakeSource(*(engine.info.model for engine in engines))
        self.store = store or Store()
        self.router: Router = router_for(
            *engines, rules=RULES, clock=lambda: round(self.time * 1e9), now=lambda: self.time
        )
        assert isinstance(self.router.fleet, FakeFleet)
        self.fleet = self.router.fleet
        self.control = Control(
            self.router,
            source=self.source,
            scores=self.store,
            states=self.store,
            heard=lambda snapshot: [validator.hotkey for validator in snapshot.validators] if snapshot else [],
            most_workers=most_workers,
            interval=0.01,
            now=lambda: self.time,
        )
        self.calls = 0

    async def begin(self) -> World:
        await self.router.start()
        await self.step()
        return self

    async def step(self, seconds: float = 5.0) -> None:
        """What the loops do in so much time, a few times over."""
        self.time += seconds
        await self.control.look()
        await self.control.decide()
        await self.control.share()

    async def call(self, *, gap_ms: float = 300.0, turns: int = 1) -> str:
        """A call that is placed, answered and ended; returns who answered it."""
        self.calls += 1
        async with self.router.place(SessionNeeds(), session_id=f"sess_{self.calls}") as placement:
            for _ in range(turns):
                self.router.turn(placement, TurnLatency(total=round(gap_ms * 1e6), parts=()))
            return placement.worker.key

    async def until(self, stage: str) -> None:
        for _ in range(200):
            if self.router.rollout.stage == stage:
                return
            await self.step()
        pytest.fail(f"it stays {self.router.rollout}")
