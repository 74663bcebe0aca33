"""A fixed list of workers, which somebody else starts and stops: they are only watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from routing.fleet.contract import Deployment, Worker
from routing.fleet.probe import Prober, Sighting
from routing.fleet.watch import Pace, Watch
from streaming.errors import EngineError

_SERVES = ("ready", "overloaded", "draining")


class StaticFleet:
    """See `routing.fleet.contract.Fleet`.

    A worker's id is its address, its key the model that it says it has, empty until it has said so. What the operator
    has listed stays in service whether it is wanted or not: which of these models take conversations is the policy's
    to say, and none of them is ever `draining` but by its own word.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        prober: Prober,
        clock: Callable[[], int],
        pace: Pace | None = None,
    ) -> None:
        self._prober = prober
        self._clock = clock
        pace = pace or Pace()
        self._workers = {
            address: Worker(id=address, address=address, key="", state="starting", since=clock())
            for address in dict.fromkeys(addresses)
        }
        self._watches = {
            address: Watch(address, prober, partial(self._show, address), every=pace.look) for address in self._workers
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._seen = asyncio.Event()

    async def start(self) -> None:
        """See `Fleet.start`; waits while all that is there still loads. Raises EngineError where nothing is there."""
        if not self._workers:
            raise EngineError("no worker is listed: expected addresses in MUSE_ENGINE", code="invalid_value")
        self._tasks = [asyncio.create_task(watch.run()) for watch in self._watches.values()]
        try:
            await self._until_one_serves()
        except BaseException:
            await self.close()
            raise

    async def want(self, deployments: Sequence[Deployment]) -> None:
        """See `Fleet.want`; changes nothing: see the class."""

    def workers(self) -> tuple[Worker, ...]:
        """See `Fleet.workers`."""
        return tuple(self._workers.values())

    def changed(self, worker_id: str, *, lost: bool) -> None:
        """See `Fleet.changed`."""
        del lost  # the look will tell
        if (watch := self._watches.get(worker_id)) is not None:
            watch.poke()

    async def close(self) -> None:
        """See `Fleet.close`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._prober.close()

    async def _until_one_serves(self) -> None:
        while not any(worker.state in _SERVES for worker in self.workers()):
            problems = [worker.problem for worker in self.workers() if worker.problem]
            if len(problems) == len(self._workers):
                raise EngineError("; ".join(problems))
            self._seen.clear()
            await self._seen.wait()

    def _show(self, address: str, seen: Sighting) -> None:
        worker = seen.of(self._workers[address], self._clock())
        self._workers[address] = replace(worker, key=worker.info.model) if worker.info else worker
        self._seen.set()
