"""Workers on the nodes of a Ray cluster. Ray places them and tells when a node dies; no audio passes through it.

Each worker has an actor, which starts the same process as `routing.fleet.local` does, beside itself on the node that it
was placed on. The gateway that has launched a worker keeps it: when the actor, the process or the node is gone, it
launches another, wherever there is a place then; and when the gateway is gone, its actors and their processes are too.
Nodes need the checkout, and the workers' environment, where the gateway has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from routing.fleet.command import WorkerCommand, environment
from routing.fleet.contract import Deployment
from routing.fleet.launcher import Exit
from routing.fleet.process import WorkerProcess
from streaming.errors import EngineError

T = TypeVar("T")

_PLACE_SECONDS = 60.0
"""What it may take until the cluster has a place for a worker."""

_REPLY_SECONDS = 5.0
"""What an actor may take to answer, beyond what it was asked to wait."""

_STORE_BYTES = 80 * 2**20  # about the least that Ray takes: nothing large is stored


class RayLauncher:
    """See `routing.fleet.launcher.Launcher`.

    `address` is the cluster, of which this machine is a node; None is one of this machine alone, made and ended here,
    whose workers listen on loopback. Others listen on their node's address and want `key`. A cluster that this process
    is connected to already is used, and left as it is. `gpus` and `cpus` are what Ray sets aside for each worker.
    """

    def __init__(
        self, command: WorkerCommand, *, key: str = "", address: str | None = None, gpus: float = 1, cpus: float = 1
    ) -> None:
        self._command = command
        self._key = key
        self._address = address
        self._resources = {"num_gpus": gpus, "num_cpus": cpus}
        self._connected = False
        # One thread for as long as the fleet is there: what Ray starts for a local cluster goes with the thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")

    async def start(self) -> None:
        """See `Launcher.start`."""
        if self._address is None:
            self._command.check()
        elif not self._key:
            message = "MUSE_ENGINE_KEY: workers on the nodes of a cluster need a key, or anyone could talk to them"
            raise EngineError(message, code="invalid_value")
        try:
            await self._call(self._connect)
        except ModuleNotFoundError as error:
            message = f"MUSE_ROUTING_FLEET=ray needs {error.name}: pip install 'muse-voice[ray]'"
            raise EngineError(message, code="invalid_value") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineError(f"MUSE_ROUTING_RAY_ADDRESS: Ray cannot be reached: {_first_line(error)}") from None

    async def launch(self, deployment: Deployment) -> RayWorker:
        """See `Launcher.launch`."""
        line = self._command.line(deployment, listen="{host}:0")
        actor = await self._call(self._place)
        return RayWorker(actor, line, key=self._key, loopback=self._address is None, call=self._call)

    async def close(self) -> None:
        """See `Launcher.close`."""
        if self._connected:
            await self._call(_disconnect)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray = _ray()
        if ray.is_initialized():
            return
        new = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if self._address is None else {}
        ray.init(address=self._address or "local", log_to_driver=False, logging_level=logging.ERROR, **new)
        self._connected = True

    def _place(self) -> Any:
        return _ray().remote(**self._resources)(WorkerActor).remote()


class RayWorker:
    """See `routing.fleet.launcher.Running`: an actor, and the process that it is asked to start.

    `line` is the worker's command, with `{host}` where its node's address belongs.
    """

    def __init__(
        self, actor: Any, line: Sequence[str], *, key: str, loopback: bool, call: Callable[[Callable[[], None]], Any]
    ) -> None:
        self._actor = actor
        self._line = line
        self._key = key
        self._loopback = loopback
        self._call = call

    async def ready(self) -> str | Exit:
        """See `Running.ready`."""
        try:
            async with asyncio.timeout(_PLACE_SECONDS):
                await _answer(self._actor.start.remote(self._line, self._key, loopback=self._loopback))
            ready: str | Exit = await _answer(self._actor.ready.remote())
        except TimeoutError:
            return Exit(problem="no node of the cluster has a place for it")
        except _ray().exceptions.RayError as error:
            return Exit(problem=f"Ray: {_first_line(error)}")
        return ready

    async def gone(self) -> Exit:
        """See `Running.gone`."""
        try:
            gone: Exit = await _answer(self._actor.gone.remote())
        except _ray().exceptions.RayError as error:
            return Exit(problem=f"Ray: {_first_line(error)}")
        return gone

    async def stop(self, patience: float) -> None:
        """See `Running.stop`; of an actor that does not answer, and of its process, Ray disposes."""
        with contextlib.suppress(TimeoutError, _ray().exceptions.RayError):
            async with asyncio.timeout(patience + _REPLY_SECONDS):
                await _answer(self._actor.stop.remote(patience))
        await self._call(lambda: _kill(self._actor))


class WorkerActor:
    """What runs on the node. Its process is killed with it, however it goes."""

    def __init__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the worker says, into Ray's logs
        self._process: WorkerProcess | None = None

    async def start(self, line: Sequence[str], key: str, *, loopback: bool) -> None:
        """Start the worker; `loopback`: nobody beyond this machine is to reach it."""
        host: str = "127.0.0.1" if loopback else _ray().util.get_node_ip_address()
        host = f"[{host}]" if ":" in host else host
        line = [word.replace("--listen={host}:", f"--listen={host}:") for word in line]
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


def _kill(actor: Any) -> None:
    if _ray().is_initialized():
        _ray().kill(actor)


def _disconnect() -> None:
    _ray().shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
