"""Workers that are started and stopped here, until those that are there are those that are wanted."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from routing.fleet.contract import Deployment, Worker
from routing.fleet.kept import KeptWorker
from routing.fleet.launcher import Launcher
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober
from routing.fleet.watch import Pace

_log = logging.getLogger(__name__)


class ConvergingFleet:
    """See `routing.fleet.contract.Fleet`. `launcher` is where its workers run; `clock` gives monotonic ns."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        prober: Prober,
        pool: EnginePool,
        clock: Callable[[], int],
        pace: Pace | None = None,
    ) -> None:
        self._launcher = launcher
        self._prober = prober
        self._pool = pool
        self._clock = clock
        self._pace = pace or Pace()
        self._kept: dict[str, KeptWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    async def start(self) -> None:
        """See `Fleet.start`."""
        await self._launcher.start()

    async def want(self, deployments: Sequence[Deployment]) -> None:
        """See `Fleet.want`. A worker that was let go and still has conversations is kept again."""
        if self._closed:
            return
        counts = {replace(deployment, workers=1): deployment.workers for deployment in deployments}
        unwanted = {kept.deployment: 0 for kept in self._kept.values()}
        for deployment, count in (unwanted | counts).items():
            self._scale(deployment, count)

    def workers(self) -> tuple[Worker, ...]:
        """See `Fleet.workers`; in the order in which they were first started."""
        return tuple(kept.worker for kept in self._kept.values())

    def changed(self, worker_id: str, *, lost: bool) -> None:
        """See `Fleet.changed`."""
        del lost  # the look will tell
        if (kept := self._kept.get(worker_id)) is not None:
            kept.poke()

    async def close(self) -> None:
        """See `Fleet.close`; returns when every worker is gone."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._launcher.close()
        await self._prober.close()

    def _scale(self, deployment: Deployment, count: int) -> None:
        those = [kept for kept in self._kept.values() if kept.deployment == deployment]
        there = [kept for kept in those if not kept.released]
        back = [kept for kept in those if kept.released and kept.serving]
        for kept in back[: max(0, count - len(there))]:
            kept.retain()
            there.append(kept)
        for _ in range(count - len(there)):
            self._add(deployment)
        for kept in sorted(there, key=_talking)[: max(0, len(there) - count)]:
            kept.release()
            if not kept.serving:
                self._tasks[kept.worker.id].cancel()

    def _add(self, deployment: Deployment) -> None:
        worker_id = f"{deployment.key}#{next(self._numbers)}"
        kept = KeptWorker(
            worker_id,
            deployment,
            self._launcher,
            prober=self._prober,
            pool=self._pool,
            clock=self._clock,
            pace=self._pace,
        )
        self._kept[worker_id] = kept
        self._tasks[worker_id] = task = asyncio.create_task(kept.run())
        task.add_done_callback(lambda task: self._forget(worker_id, task))

    def _forget(self, worker_id: str, task: asyncio.Task[None]) -> None:
        del self._kept[worker_id], self._tasks[worker_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("worker %s is kept no longer", worker_id, exc_info=error)


def _talking(kept: KeptWorker) -> int:
    """How many talk on it: those that lose least come first."""
    return (kept.worker.slots or 0) - (kept.worker.free or 0)
