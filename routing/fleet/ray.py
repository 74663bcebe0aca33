"""Workers on Ray, which places them and tells when a node dies; no audio passes through it.

Ray has a process of its own beside the gateway's (`routing.fleet.ray_driver`): it shares nothing with conversations,
and where it loses its cluster and is ended, another is started. A worker is kept by the gateway that launched it: when
the actor, the process or the node is gone it launches another, wherever there is a place then; and when the gateway is
gone, its driver, actors and workers are too. Nodes need the checkout, and the workers' environment, where the gateway
has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from routing.fleet.command import ROOT, WorkerCommand, environment
from routing.fleet.contract import Deployment
from routing.fleet.launcher import Exit
from routing.fleet.process import tied
from routing.fleet.ray_cluster import RayOptions
from routing.fleet.ray_driver import MOST_LINE
from streaming.errors import EngineError

_log = logging.getLogger(__name__)

_START_SECONDS = 90.0
_REPLY_SECONDS = 10.0
"""What the driver may take to answer, beyond what it was asked to wait."""

_GONE = Exit(problem="the process that speaks to Ray has gone")


class RayLauncher:
    """See `routing.fleet.launcher.Launcher`."""

    def __init__(self, command: WorkerCommand, options: RayOptions) -> None:
        self._command = command
        self._options = options
        self._driver: _Driver | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """See `Launcher.start`."""
        if self._options.address is None:
            self._command.check()
        elif not self._options.key:
            message = "MUSE_ENGINE_KEY: workers on the nodes of a cluster need a key, or anyone could talk to them"
            raise EngineError(message, code="invalid_value")
        await self._there()

    async def launch(self, deployment: Deployment) -> RemoteWorker:
        """See `Launcher.launch`."""
        return (await self._there()).launch(deployment)

    async def close(self) -> None:
        """See `Launcher.close`."""
        if self._driver is not None:
            await self._driver.close()

    async def _there(self) -> _Driver:
        async with self._starting:
            if self._driver is None or self._driver.gone:
                if self._driver is not None:
                    await self._driver.close()
                self._driver = await _Driver.spawn(self._command, self._options)
            return self._driver


class RemoteWorker:
    """See `routing.fleet.launcher.Running`: one that the driver runs."""

    def __init__(self, number: int, driver: _Driver) -> None:
        loop = asyncio.get_running_loop()
        self._number = number
        self._driver = driver
        self._ready: asyncio.Future[str | Exit] = loop.create_future()
        self._gone: asyncio.Future[Exit] = loop.create_future()
        self._stopped = asyncio.Event()

    async def ready(self) -> str | Exit:
        """See `Running.ready`."""
        return await asyncio.shield(self._ready)

    async def gone(self) -> Exit:
        """See `Running.gone`."""
        return await asyncio.shield(self._gone)

    async def stop(self, patience: float) -> None:
        """See `Running.stop`."""
        self._driver.send({"stop": self._number, "patience": patience})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience + _REPLY_SECONDS):
                await self._stopped.wait()
        self._driver.forget(self._number)

    def told(self, message: Mapping[str, Any]) -> None:
        """What the driver says of it."""
        if "ready" in message and not self._ready.done():
            self._ready.set_result(str(message["ready"]))
        elif "gone" in message:
            self.went(Exit(**message["gone"]))
        elif "stopped" in message:
            self._stopped.set()

    def went(self, how: Exit) -> None:
        """It is gone."""
        for future in (self._ready, self._gone):
            if not future.done():
                future.set_result(how)


class _Driver:
    """The driver's process, from the gateway's side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._workers: dict[int, RemoteWorker] = {}
        self._numbers = itertools.count(1)
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, command: WorkerCommand, options: RayOptions) -> _Driver:
        """A driver that is connected. Raises EngineError where it cannot be."""
        process = await asyncio.create_subprocess_exec(
            *tied([sys.executable, "-m", "routing.fleet.ray_driver"]),
            cwd=ROOT,
            env=environment(os.environ, "") | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MOST_LINE,
        )
        driver = cls(process)
        driver.send({"python": str(command.python), "options": command.options, "ray": asdict(options)})
        try:
            async with asyncio.timeout(_START_SECONDS):
                answer = json.loads(await driver._out.readline() or '{"started": "its process has gone"}')
        except TimeoutError:
            answer = {"started": "MUSE_ROUTING_RAY_ADDRESS: Ray does not answer"}
        except BaseException:
            await driver.close()
            raise
        if answer["started"] is not None:
            await driver.close()
            raise EngineError("Ray cannot be used", code="invalid_value", detail=answer["started"])
        driver._reader = asyncio.create_task(driver._read())
        return driver

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._reader is None or self._reader.done()

    def launch(self, deployment: Deployment) -> RemoteWorker:
        """Have it launch a worker."""
        number = next(self._numbers)
        worker = self._workers[number] = RemoteWorker(number, self)
        self.send({"launch": number, "deployment": asdict(deployment)})
        return worker

    def forget(self, number: int) -> None:
        """A worker is gone."""
        self._workers.pop(number, None)

    def send(self, message: Mapping[str, Any]) -> None:
        """Ask it for something."""
        assert self._process.stdin is not None  # noqa: S101  (it was asked for)
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        """End it, and what is left of its workers; returns when it is gone."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        ended = asyncio.create_task(self._process.wait())
        await asyncio.wait((ended,), timeout=_REPLY_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await ended
        if self._reader is not None:
            await self._reader

    @property
    def _out(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None  # noqa: S101
        return self._process.stdout

    async def _read(self) -> None:
        try:
            while line := await self._out.readline():
                message = json.loads(line)
                if (worker := self._workers.get(message["worker"])) is not None:
                    worker.told(message)
        except ValueError:
            _log.warning("the process that speaks to Ray broke off in the middle of a line")
        finally:
            for worker in list(self._workers.values()):
                worker.went(_GONE)
                worker.told({"stopped": True})
