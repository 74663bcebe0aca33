"""`python -m models worker`: one process for an engine and, where it has one, its GPU."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time

from models.access import is_loopback
from models.worker.engines import build_host
from models.worker.host import Host
from models.worker.metrics import WorkerMetrics
from models.worker.server import WorkerServer, bind
from models.worker.settings import PREFIX, SettingsError, WorkerSettings
from streaming.errors import EngineError

_log = logging.getLogger("worker")

_BROKEN = 1
_SHOWN_SECONDS = 1.0
"""How long a broken worker still says so at /health before it goes."""


def run(settings: WorkerSettings) -> int:
    """Serve until told to stop; 0 then, 1 where the engine has broken.

    Raises SettingsError or EngineError where it cannot start.
    """
    _check_access(settings)
    _start_logging(settings.log_level)
    return asyncio.run(_serve(settings))


async def _serve(settings: WorkerSettings) -> int:
    metrics = WorkerMetrics()
    host = build_host(settings, clock=time.monotonic_ns, metrics=metrics)
    server = WorkerServer(host, settings, clock=time.monotonic_ns, metrics=metrics)
    stop = _stop_at_signals()
    listener = _bind(settings, duplex=settings.engine in ("moshi", "echo-duplex"))
    url = _url(listener)
    try:
        await server.listen(listener)
        _log.info("listening: url=%s", url)
        if not await _until(asyncio.create_task(host.load()), stop):
            # The thread that loads would hold the process until it is done.
            _log.info("stopped while it loads")
            os._exit(0)
        _log.info("ready: engine=%s slots=%d url=%s", host.info.model, settings.slots, url)
        return await _run(host, server, settings.drain_seconds, stop)
    finally:
        if host.status == "stalled":
            # Its thread would hold the process for ever, and with it the GPU.
            _log.error("the model hangs: going without it")
            os._exit(_BROKEN)
        await server.close()
        await host.close()
        listener.close()


async def _run(host: Host, server: WorkerServer, drain_seconds: float, stop: asyncio.Event) -> int:
    engine = asyncio.create_task(host.run())
    try:
        if await _until(engine, stop):
            return 0
    except EngineError as error:
        _log.error("%s", error.message)
        await asyncio.sleep(_SHOWN_SECONDS)
        return _BROKEN
    stop.clear()
    _log.info("draining for at most %g s", drain_seconds)
    draining = asyncio.create_task(server.drain(drain_seconds))
    try:
        await _until(draining, stop)
        return 0
    finally:
        engine.cancel()
        await asyncio.gather(engine, return_exceptions=True)


async def _until(task: asyncio.Task[None], stop: asyncio.Event) -> bool:
    """Whether the task was done before the signal came. Raises what it raises."""
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            return True
        return False
    finally:
        told.cancel()


def _stop_at_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _check_access(settings: WorkerSettings) -> None:
    host = settings.address[0]
    if settings.key is None and not settings.allow_open and not is_loopback(host):
        raise SettingsError(
            f"without a key anyone who reaches {host} could talk: set {PREFIX}KEY, or pass --allow-open"
        )


def _bind(settings: WorkerSettings, *, duplex: bool) -> socket.socket:
    try:
        return bind(*settings.address, duplex=duplex)
    except OSError as error:
        raise SettingsError(f"--listen: cannot listen on {settings.listen}: {error.strerror or error}") from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def _start_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # It tells of every client that breaks off, with a traceback.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
