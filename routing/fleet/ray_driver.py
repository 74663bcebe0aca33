"""`python -m routing.fleet.ray_driver`: the process that speaks to Ray for a gateway.

A driver that loses its cluster is ended by Ray after a minute, whatever else it does; so it does nothing else. It is
told what to do by lines of JSON on its standard input, and answers on its standard output:

    {"python", "options", "ray": {...}}    first: `WorkerCommand` and `RayOptions`
                                           -> {"started": null}, or {"started": problem} and the end
    {"launch": n, "deployment": {...}}     -> {"worker": n, "ready": address}, {"worker": n, "gone": {...}}: an `Exit`
    {"stop": n, "patience": seconds}       -> {"worker": n, "stopped": true}

At the end of its input it ends its workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from routing.fleet.command import WorkerCommand
from routing.fleet.contract import Deployment
from routing.fleet.launcher import Exit, Launcher, Running
from routing.fleet.ray_cluster import RayCluster, RayOptions, first_line
from streaming.errors import EngineError

MOST_LINE = 2**20
_STOP_SECONDS = 2.0

Tell = Callable[[dict[str, Any]], None]


class Driver:
    """Does what the gateway asks of a launcher, and tells it what became of that."""

    def __init__(self, launcher: Launcher, tell: Tell) -> None:
        self._launcher = launcher
        self._tell = tell
        self._launching: dict[int, asyncio.Task[Running]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, request: dict[str, Any]) -> None:
        """Begin to do what is asked."""
        if "launch" in request:
            number = request["launch"]
            launching = asyncio.create_task(self._launcher.launch(Deployment(**request["deployment"])))
            self._launching[number] = launching
            self._begin(self._follow(number, launching))
        else:
            self._begin(self._stop(request["stop"], request["patience"]))

    async def close(self) -> None:
        """End every worker."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(number, _STOP_SECONDS) for number in list(self._launching)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, number: int, launching: asyncio.Task[Running]) -> None:
        try:
            running = await asyncio.shield(launching)
            ready = await running.ready()
            if not isinstance(ready, Exit):
                self._tell({"worker": number, "ready": ready})
                ready = await running.gone()
        except Exception as error:  # Ray has many, of several trees
            ready = Exit(problem="Ray cannot run it", detail=first_line(error))
        self._tell({"worker": number, "gone": asdict(ready)})

    async def _stop(self, number: int, patience: float) -> None:
        """Stop what has been launched, or is being launched."""
        launching = self._launching.pop(number)
        await asyncio.wait((launching,))
        try:
            if launching.exception() is None:
                await launching.result().stop(patience)
        finally:
            self._tell({"worker": number, "stopped": True})


async def _serve() -> None:
    tell = _telling()
    requests = asyncio.StreamReader(limit=MOST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    asked = json.loads(await requests.readline())
    command = WorkerCommand(python=Path(asked["python"]), options=tuple(asked["options"]))
    cluster = RayCluster(command, RayOptions(**asked["ray"]))
    try:
        await cluster.start()
    except EngineError as error:
        tell({"started": str(error)})
        return
    tell({"started": None})
    driver = Driver(cluster, tell)
    try:
        while line := await requests.readline():
            driver.take(json.loads(line))
    finally:
        await driver.close()
        await cluster.close()


def _telling() -> Tell:
    """Take standard output for the answers alone: what else is written to it goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    return tell


if __name__ == "__main__":
    asyncio.run(_serve())
