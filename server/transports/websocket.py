"""What every WebSocket of a conversation needs, whatever is said over it: the way in, bounded writing, and closing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from routing.needs import read_needs
from routing.policy.contract import SessionNeeds
from server.api.errors import refusal
from server.auth import AccessPolicy
from server.driver import ConnectionOverError, SlowConsumerError
from server.duel_door import DuelDoor
from server.errors import Refused
from server.gateway import Call, Gateway
from server.metrics import Metrics
from streaming.errors import PeerError
from streaming.observations import CloseSession

Payload = str | bytes
"""A text or a binary message."""

_FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """`send_buffer`: bytes queued for a client before it counts as too slow.

    A message that is larger than that by itself (a spoken item that was asked for) does not count; while one is
    queued, the client is not read, so that it cannot ask for more of them.
    """

    send_buffer: int = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """What is sent when nothing else has been for `seconds`."""

    message: bytes
    seconds: float


class MessageSocket:
    """One client's WebSocket. Inside its context a task writes what `send` has queued."""

    def __init__(
        self, socket: WebSocket, *, limits: WebSocketLimits, metrics: Metrics, keep_alive: KeepAlive | None = None
    ) -> None:
        self._socket = socket
        self._send_buffer = limits.send_buffer
        self._keep_alive = keep_alive
        self._queue: asyncio.Queue[Payload] = asyncio.Queue()
        self._queued = 0
        self._outsized = 0
        self._reading = asyncio.Event()
        self._reading.set()
        self._writer: asyncio.Task[None] | None = None
        self._frames_in, self._frames_out = metrics.frames.labels("in"), metrics.frames.labels("out")
        self._bytes_in, self._bytes_out = metrics.bytes.labels("in"), metrics.bytes.labels("out")

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def receive(self) -> Payload:
        """The next message. Raises ConnectionOverError when the client has gone."""
        await self._reading.wait()
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ConnectionOverError
        text: str | None = message.get("text")
        payload: Payload = message["bytes"] if text is None else text
        self._frames_in.inc()
        self._bytes_in.inc(len(payload))
        return payload

    def send(self, message: Payload) -> None:
        """Queue a message. Raises SlowConsumerError when too much is queued already."""
        if self._queued > self._send_buffer:
            raise SlowConsumerError
        self._count(message, 1)
        self._queue.put_nowait(message)

    async def close(self, close: CloseSession) -> None:
        """Send what is queued, within reason, and close."""
        if self._queued <= self._send_buffer:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), _FLUSH_SECONDS)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
            await self._socket.close(close.code, close.reason)

    async def _write(self) -> None:
        while True:
            message = await self._next()
            if message is None:
                continue
            await self._transmit(message)
            self._count(message, -1)
            self._queue.task_done()

    async def _next(self) -> Payload | None:
        """The next message in the queue; None where the client has been kept alive instead."""
        if self._keep_alive is None:
            return await self._queue.get()
        try:
            async with asyncio.timeout(self._keep_alive.seconds):
                return await self._queue.get()
        except TimeoutError:
            await self._transmit(self._keep_alive.message)
            return None

    async def _transmit(self, message: Payload) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the reader learns of it too
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)
            self._frames_out.inc()
            self._bytes_out.inc(len(message))

    def _count(self, message: Payload, times: int) -> None:
        if len(message) <= self._send_buffer:
            self._queued += times * len(message)
            return
        self._outsized += times
        if self._outsized:
            self._reading.clear()
        else:
            self._reading.set()


async def admit(
    socket: WebSocket,
    *,
    gateway: Gateway,
    access: AccessPolicy,
    duels: DuelDoor | None,
    talk: Callable[[Call], Awaitable[None]],
) -> None:
    """Let a client in, whose query says what it needs, for as long as `talk` takes. `duels`: where there are any.

    Whoever is refused, by this or by `talk` before it accepts, is answered over HTTP, before the upgrade.
    """
    try:
        access.check_origin(socket.headers)
        access.check_key(socket.headers, socket.scope.get("subprotocols", []))
        async with _admission(_needs(socket.query_params), gateway, duels) as call:
            await talk(call)
    except Refused as refused:
        gateway.metrics.refused.labels(refused.code).inc()
        await socket.send_denial_response(refusal(refused))


def _admission(
    needs: SessionNeeds, gateway: Gateway, duels: DuelDoor | None
) -> contextlib.AbstractAsyncContextManager[Call]:
    if duels is not None and duels.leads(needs):
        return duels.admit(gateway, needs)
    return gateway.admit(needs)


def _needs(query: Mapping[str, str]) -> SessionNeeds:
    try:
        return read_needs(query)
    except PeerError as error:
        raise Refused(400, error.code, error.message, param=error.param) from None
