"""A fixed list of workers, which somebody else starts and stops: they are only watched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from models.catalogue import ENGINE_NAMES
from routing.fleet.contract import Deployment, Worker
from routing.fleet.probe import Prober, Sighting
from routing.fleet.watch import Pace, Watch
from streaming.errors import EngineError

_log = logging.getLogger(__name__)

_SERVES = ("ready", "overloaded", "draining")


class StaticFleet:
    """See `routing.fleet.contract.Fleet`.

    A worker's id is its place in the list, for clients see ids, and its address is none of their business; an engine in
    this process has its name. Its key is the model that it says it has, empty until it has said so. What the operator
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
        named = ((_id(address, place), address) for place, address in enumerate(dict.fromkeys(addresses), start=1))
        self._workers = {
            worker_id: Worker(id=worker_id, address=address, key="", state="starting", since=clock())
            for worker_id, address in named
        }
        self._watches = {
            worker_id: Watch(worker.address, prober, partial(self._show, worker_id), every=pace.look)
            for worker_id, worker in self._workers.items()
        }
        self._problems: dict[str, str] = {}  # as the log has them, by worker
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
            if len(self._problems) == len(self._workers):
                told = (f"{self._workers[worker_id].address}: {text}" for worker_id, text in self._problems.items())
                raise EngineError("no worker can be used", detail="; ".join(told))
            self._seen.clear()
            await self._seen.wait()

    def _show(self, worker_id: str, seen: Sighting) -> None:
        worker = seen.of(self._workers[worker_id], self._clock())
        self._workers[worker_id] = replace(worker, key=worker.info.model) if worker.info else worker
        self._note(worker, seen)
        self._seen.set()

    def _note(self, worker: Worker, seen: Sighting) -> None:
        """What is wrong with it, logged once."""
        fields = {"worker": worker.id, "address": worker.address, "state": seen.state}
        if seen.problem is None:
            if self._problems.pop(worker.id, None) is not None:
                _log.info("a worker is back", extra={"fields": fields})
            return
        problem = seen.problem if seen.detail is None else f"{seen.problem}: {seen.detail}"
        if self._problems.get(worker.id) != problem:
            self._problems[worker.id] = problem
            _log.warning("a worker cannot be used", extra={"fields": {**fields, "problem": problem}})


def _id(address: str, place: int) -> str:
    return address if address in ENGINE_NAMES else f"worker-{place}"
