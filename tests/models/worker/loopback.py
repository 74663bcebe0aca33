"""A worker in this process, and clients that misuse it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from models.worker import ticks
from models.worker.batch import DuplexBatch
from models.worker.duplex import DuplexHost
from models.worker.echo import EchoBatch
from models.worker.host import Host
from models.worker.metrics import WorkerMetrics
from models.worker.server import WorkerServer, bind
from models.worker.settings import WorkerSettings
from streaming.engine import Samples
from streaming.wire.moshi import FRAME_SAMPLES, Frame, Message, Metadata, Pcm, WireError, decode, encode

FRAME_SECONDS = 0.08
PATIENCE = 60.0
"""Seconds that only a hang uses up."""


class Worker:
    """`url` is ws://127.0.0.1:PORT."""

    def __init__(self, server: WorkerServer, host: Host, running: asyncio.Task[None], url: str) -> None:
        self.server = server
        self.host = host
        self.running = running
        self.url = url

    @contextlib.asynccontextmanager
    async def talk(self, query: str = "audio=pcm", **options: Any) -> AsyncIterator[ClientConnection]:
        async with connect(
            f"{self.url}/api/chat?{query}", proxy=None, compression=None, close_timeout=PATIENCE, **options
        ) as connection:
            yield connection

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as client:
            return await client.get(self.url.replace("ws", "http", 1) + path, headers=headers)

    async def slots(self) -> list[dict[str, Any]]:
        slots: list[dict[str, Any]] = (await self.get("/slots")).json()
        return slots

    async def until(self, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(await self.slots()):  # noqa: ASYNC110 it is asked over HTTP
                await asyncio.sleep(0.02)

    async def until_left(self, session: str) -> None:
        await self.until(lambda slots: session not in {slot["session"] for slot in slots})

    async def until_counted(self, sample: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while sample not in (await self.get("/metrics")).text:  # noqa: ASYNC110 it is asked over HTTP
                await asyncio.sleep(0.02)


def settings(**values: Any) -> WorkerSettings:
    """Of a machine that may be busy: no tick is too late to let somebody in, and nobody is too slow to open."""
    chosen: Any = {"engine": "echo-duplex", "slots": 4, "late_ms": 1e6, "handshake_seconds": PATIENCE} | values
    return WorkerSettings(**chosen)


@contextlib.asynccontextmanager
async def worker(
    *, batch: Callable[[], DuplexBatch] | None = None, host: Host | None = None, **values: Any
) -> AsyncIterator[Worker]:
    chosen, metrics = settings(**values), WorkerMetrics()
    if host is None:
        make = batch or (lambda: EchoBatch(chosen.slots))
        host = DuplexHost(make, chosen, clock=time.monotonic_ns, metrics=metrics)
    server = WorkerServer(host, chosen, clock=time.monotonic_ns, metrics=metrics)
    listener = bind("127.0.0.1", 0, duplex=True)
    await server.listen(listener)
    await host.load()
    running = asyncio.create_task(host.run())
    try:
        with patch.object(ticks, "_STALLED", round(PATIENCE * 1e9)):  # of a process that does not get a core
            yield Worker(server, host, running, f"ws://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        await server.drain(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.close()
        await host.close()
        listener.close()


async def messages(connection: ClientConnection) -> AsyncIterator[Message]:
    """Until the worker closes."""
    with contextlib.suppress(ConnectionClosed):
        async for data in connection:
            assert isinstance(data, bytes)
            message = decode(data)
            assert message is not None
            yield message


async def session_of(connection: ClientConnection) -> str:
    async for message in messages(connection):
        if isinstance(message, Metadata) and message.values["type"] == "session":
            return str(message.values["session"])
    raise AssertionError("no session")


async def ending(connection: ClientConnection) -> tuple[int | None, str]:
    """How the worker ends the conversation: its WebSocket code, and its error's."""
    code = ""
    async with asyncio.timeout(PATIENCE):
        async for message in messages(connection):
            if isinstance(message, WireError):
                code = message.code
    await connection.wait_closed()
    return connection.close_code, code


async def begin(connection: ClientConnection, **values: Any) -> None:
    await connection.send(encode(Metadata(values={"type": "begin", **values})))


async def until_ready(connection: ClientConnection) -> None:
    async for message in messages(connection):
        if isinstance(message, Metadata) and message.values["type"] == "ready":
            return
    raise AssertionError("the worker closed")


def speech(frames: int) -> Samples:
    return np.random.default_rng(5).uniform(-0.5, 0.5, frames * FRAME_SAMPLES).astype(np.float32)


async def converse(worker: Worker, audio: Samples, started: asyncio.Future[str] | None = None) -> Samples:
    """Speak in real time; returns all that was said, once each frame has been answered.

    `started` is given the session's name when the second frame has been sent.
    """
    async with worker.talk() as connection:
        session = await session_of(connection)
        await begin(connection)
        await until_ready(connection)
        count = len(audio) // FRAME_SAMPLES
        hearing = asyncio.create_task(_hear(connection, count))
        for index, frame in enumerate(audio.reshape(count, FRAME_SAMPLES)):
            await connection.send(encode(Pcm(audio=frame)))
            await asyncio.sleep(FRAME_SECONDS)
            if index == 1 and started is not None:
                started.set_result(session)
        async with asyncio.timeout(PATIENCE):
            return await hearing


async def _hear(connection: ClientConnection, count: int) -> Samples:
    frames: list[Frame] = []
    async for message in messages(connection):
        if isinstance(message, Frame):
            frames.append(message)
            if len(frames) == count:
                break
    assert [frame.number for frame in frames] == list(range(count))
    return np.concatenate([frame.audio for frame in frames])


def body(response: Any) -> dict[str, Any]:
    """The JSON of a refusal."""
    value: dict[str, Any] = json.loads(bytes(response.body))
    return value
