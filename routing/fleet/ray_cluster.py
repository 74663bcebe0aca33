"""Workers on the nodes of a Ray cluster: what runs in the driver's process, and in the actors.

Each worker has an actor, which starts the same process as `routing.fleet.local` does, beside itself on the node that it
was placed on. When the driver is gone its actors are too, and with them their processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from models.hub.errors import printable
from routing.fleet.command import WorkerCommand, environment
from routing.fleet.contract import Deployment
from routing.fleet.launcher import Exit
from routing.fleet.process import WorkerProcess
from streaming.errors import EngineError

T = TypeVar("T")

HOST = "{host}"

_REPLY_SECONDS = 5.0
"""What an actor may take to answer, beyond what it was asked to wait."""

_AGAIN_SECONDS = 0.5

_STORE_BYTES = 80 * 2**20  # about the least that Ray takes: nothing large is stored


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """How workers are placed.

    `address` is the cluster, of which this machine is a node; None is one of this machine alone, made and ended here,
    whose workers listen on loopback. Others listen on their node's address and want `key`. `gpus` and `cpus` are what
    Ray sets aside for each worker, and `place` how many seconds it may take until a node has a place for one.
    """

    address: str | None = None
    gpus: float = 1
    cpus: float = 1
    key: str = ""
    place: float = 60.0


class RayCluster:
    """See `routing.fleet.launcher.Launcher`. It is the driver of a Ray job; a process has one."""

    def __init__(self, command: WorkerCommand, options: RayOptions) -> None:
        self._command = command
        self._options = options
        # One thread for as long as this is there: what Ray starts for a local cluster goes with its thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")

    async def start(self) -> None:
        """See `Launcher.start`."""
        try:
            await self._call(self._connect)
        except ModuleNotFoundError as error:
            message = f"MUSE_ROUTING_FLEET=ray needs {error.name}: pip install 'muse-voice[ray]'"
            raise EngineError(message, code="invalid_value") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineError("MUSE_ROUTING_RAY_ADDRESS: Ray cannot be reached", detail=first_line(error)) from None

    async def launch(self, deployment: Deployment) -> RayWorker:
        """See `Launcher.launch`."""
        line = self._command.line(deployment, listen=f"{HOST}:0")
        actor = await self._call(self._place)
        return RayWorker(actor, line, self._options, self._call)

    async def close(self) -> None:
        """See `Launcher.close`."""
        await self._call(lambda: _ray().shutdown())
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> None:
        new = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if not self._options.address else {}
        _ray().init(address=self._options.address or "local", log_to_driver=False, logging_level=logging.ERROR, **new)

    def _place(self) -> Any:
        resources = {"num_gpus": self._options.gpus, "num_cpus": self._options.cpus}
        return _ray().remote(**resources)(WorkerActor).remote()


class RayWorker:
    """See `routing.fleet.launcher.Running`: an actor, and the process that it is asked to start.

    `line` is the worker's command, with `HOST` where its node's address belongs.
    """

    def __init__(
        self, actor: Any, line: Sequence[str], options: RayOptions, call: Callable[[Callable[[], None]], Any]
    ) -> None:
        self._actor = actor
        self._line = line
        self._options = options
        self._call = call
        self._placed = False

    async def ready(self) -> str | Exit:
        """See `Running.ready`."""
        try:
            async with asyncio.timeout(self._options.place):
                loopback = self._options.address is None
                await _answer(self._actor.start.remote(self._line, self._options.key, loopback=loopback))
            self._placed = True
            ready: str | Exit = await _answer(self._actor.ready.remote())
        except TimeoutError:
            return Exit(problem="no node of the cluster has a place for it")
        except _ray().exceptions.RayError as error:
            return Exit(problem="Ray cannot run it", detail=first_line(error))
        return ready

    async def gone(self) -> Exit:
        """See `Running.gone`. That the actor cannot be reached for a moment says nothing of the worker: it talks on."""
        while True:
            try:
                gone: Exit = await _answer(self._actor.gone.remote())
            except _ray().exceptions.ActorUnavailableError:
                await asyncio.sleep(_AGAIN_SECONDS)
            except _ray().exceptions.RayError as error:
                return Exit(problem="Ray has lost it", detail=first_line(error))
            else:
                return gone

    async def stop(self, patience: float) -> None:
        """See `Running.stop`; of an actor that does not answer, and of its process, Ray disposes."""
        if self._placed:
            with contextlib.suppress(TimeoutError, _ray().exceptions.RayError):
                async with asyncio.timeout(patience + _REPLY_SECONDS):
                    await _answer(self._actor.stop.remote(patience))
        await self._call(lambda: _ray().kill(self._actor))


class WorkerActor:
    """What runs on the node. Its process is killed with it, however it goes."""

    def __init__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the worker says, into Ray's logs
        self._process: WorkerProcess | None = None

    async def start(self, line: Sequence[str], key: str, *, loopback: bool) -> None:
        """Start the worker; `loopback`: nobody beyond this machine is to reach it."""
        host: str = "127.0.0.1" if loopback else _ray().util.get_node_ip_address()
        host = f"[{host}]" if ":" in host else host
        line = [word.replace(f"--listen={HOST}:", f"--listen={host}:") for word in line]
        self._process = await WorkerProcess.spawn(line, environment(os.environ, key))

    async def ready(self) -> str | Exit:
        """See `Running.ready`."""
        return await self._started.ready()

    async def gone(self) -> Exit:
        """See `Running.gone`."""
        return await self._started.gone()

    async def stop(self, patience: float) -> None:
        """See `Running.stop`."""
        if self._process is not None:
            await self._process.stop(patience)

    @property
    def _started(self) -> WorkerProcess:
        if self._process is None:
            raise RuntimeError("the worker has not been started")
        return self._process


def _ray() -> Any:
    return importlib.import_module("ray")


async def _answer(reference: Any) -> Any:
    return await asyncio.wrap_future(reference.future())


def first_line(error: Exception) -> str:
    """What an error says, short enough to show; Ray's run over many lines."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
