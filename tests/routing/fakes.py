"""Doubles for the router's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from routing.fleet.contract import Deployment, Worker, WorkerState
from routing.fleet.pool import EnginePool
from routing.policy.contract import Rules
from routing.router import Router
from streaming.engine import Engine, EngineCommand, EngineEvent, EngineInfo


class FakeEngineSession:
    """Says what a test puts into `queue`; None ends it."""

    def __init__(self) -> None:
        self.commands: list[EngineCommand] = []
        self.queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self.closed = False
        self.close_hangs = False

    def send(self, command: EngineCommand) -> None:
        self.commands.append(command)

    async def events(self) -> AsyncIterator[EngineEvent]:
        while (event := await self.queue.get()) is not None:
            yield event

    async def close(self) -> None:
        self.closed = True
        self.queue.put_nowait(None)
        if self.close_hangs:
            await asyncio.Event().wait()


class FakeEngine:
    """Opens FakeEngineSessions, unless a test has it refuse, or hang."""

    def __init__(self, model: str, *, duplex: bool = False) -> None:
        self.info = EngineInfo(model=model, input_rate=16_000, output_rate=24_000, duplex=duplex)
        self.refusal: Exception | None = None
        self.hangs = False
        self.sessions: list[FakeEngineSession] = []

    async def start(self) -> None:
        pass

    async def open(self, session_id: str) -> FakeEngineSession:
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusal is not None:
            raise self.refusal
        self.sessions.append(FakeEngineSession())
        return self.sessions[-1]

    async def close(self) -> None:
        pass

    @property
    def open_now(self) -> int:
        return sum(not session.closed for session in self.sessions)


class FakeFleet:
    """One worker for each engine, by its name, ready from the start; a test alters `found`."""

    def __init__(self, engines: Mapping[str, Engine], pool: EnginePool) -> None:
        self.found: dict[str, Worker] = {}
        self.wanted: list[Sequence[Deployment]] = []
        self.looked_at: list[tuple[str, bool]] = []
        self.closed = False
        self._engines = engines
        self._pool = pool

    async def start(self) -> None:
        for address in self._engines:
            info = await self._pool.start(address)
            self.found[address] = Worker(id=address, address=address, key=info.model, state="ready", info=info)

    def put(self, address: str, state: WorkerState) -> None:
        """From now on the worker there is in this state."""
        self.found[address] = replace(self.found[address], state=state)

    async def want(self, deployments: Sequence[Deployment]) -> None:
        self.wanted.append(deployments)

    def workers(self) -> tuple[Worker, ...]:
        return tuple(self.found.values())

    def changed(self, worker_id: str, *, lost: bool) -> None:
        self.looked_at.append((worker_id, lost))

    async def close(self) -> None:
        self.closed = True


def router_for(
    *engines: Engine,
    rules: Rules | None = None,
    clock: Callable[[], int] = lambda: 0,
    now: Callable[[], float] = lambda: 0.0,
    on_error: Callable[[str], None] = lambda _: None,
) -> Router:
    """A router over these engines alone, which share this process; the first is at address `0`."""
    by_address = {str(number): engine for number, engine in enumerate(engines)}
    pool = EnginePool(by_address.__getitem__)
    fleet = FakeFleet(by_address, pool)
    return Router(fleet=fleet, pool=pool, rules=rules or Rules(), clock=clock, now=now, on_error=on_error)
