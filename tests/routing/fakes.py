"""Doubles for the router's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routing.fleet.contract import Deployment, Worker
from routing.fleet.pool import EnginePool
from routing.policy.contract import Rules
from routing.router import Router
from streaming.engine import Engine


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

    async def want(self, deployments: Sequence[Deployment]) -> None:
        self.wanted.append(deployments)

    def workers(self) -> tuple[Worker, ...]:
        return tuple(self.found.values())

    def changed(self, worker_id: str, *, lost: bool) -> None:
        self.looked_at.append((worker_id, lost))

    async def close(self) -> None:
        self.closed = True


def router_for(*engines: Engine, rules: Rules | None = None) -> Router:
    """A router over these engines alone, which share this process; the first is at address `0`."""
    by_address = {str(number): engine for number, engine in enumerate(engines)}
    pool = EnginePool(by_address.__getitem__)
    return Router(fleet=FakeFleet(by_address, pool), pool=pool, rules=rules or Rules())
