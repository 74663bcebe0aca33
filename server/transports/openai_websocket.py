"""OpenAI Realtime over a WebSocket: `/v1/realtime?model=`. Text frames of JSON, both ways.

`extensions=muse` in the query asks for Muse's own events as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from server.api.errors import refusal
from server.auth import AccessPolicy, offered_subprotocol
from server.driver import ConnectionOverError, SlowConsumerError
from server.errors import Refused
from server.gateway import Gateway
from server.metrics import Metrics
from streaming.client_events import ClientEvent
from streaming.observations import CloseSession
from streaming.server_events import ServerEvent
from streaming.wire.openai_realtime import decode_client, encode_server

_FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """`send_buffer`: bytes queued for a client before it counts as too slow.

    An event that is larger than that by itself (a spoken item that was asked for) does not count; while one is queued,
    the client is not read, so that it cannot ask for more of them.
    """

    send_buffer: int = 2**20


class WebSocketConnection:
    """The driver's view of one WebSocket. Inside its context a task writes what `send` has queued."""

    def __init__(self, socket: WebSocket, *, limits: WebSocketLimits, metrics: Metrics) -> None:
        self._socket = socket
        self._send_buffer = limits.send_buffer
        self._queue: asyncio.Queue[str] = asyncio.Queue()
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

    async def receive(self) -> ClientEvent:
        """The next event. Raises PeerError, or ConnectionOverError."""
        await self._reading.wait()
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ConnectionOverError
        text = message.get("text")
        self._frames_in.inc()
        if text is None:
            raise ConnectionOverError(CloseSession(code=1003, reason="Events are JSON in text frames."))
        self._bytes_in.inc(len(text))
        return decode_client(text)

    def send(self, event: ServerEvent) -> None:
        """Queue an event. Raises SlowConsumerError when too much is queued already."""
        if self._queued > self._send_buffer:
            raise SlowConsumerError
        text = encode_server(event)
        self._count(text, 1)
        self._queue.put_nowait(text)

    async def close(self, close: CloseSession) -> None:
        """Send what is queued, within reason, and close."""
        if self._queued <= self._send_buffer:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), _FLUSH_SECONDS)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
            await self._socket.close(close.code, close.reason)

    async def _write(self) -> None:
        while True:
            text = await self._queue.get()
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the reader learns of it too
                await self._socket.send_text(text)
                self._frames_out.inc()
                self._bytes_out.inc(len(text))
            self._count(text, -1)
            self._queue.task_done()

    def _count(self, text: str, times: int) -> None:
        if len(text) <= self._send_buffer:
            self._queued += times * len(text)
            return
        self._outsized += times
        if self._outsized:
            self._reading.clear()
        else:
            self._reading.set()


def realtime_router(gateway: Gateway, access: AccessPolicy, limits: WebSocketLimits) -> APIRouter:
    """The route of the conversations."""
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        subprotocols = socket.scope.get("subprotocols", [])
        try:
            access.check_origin(socket.headers)
            access.check_key(socket.headers, subprotocols)
            async with gateway.admit(socket.query_params.get("model")) as call:
                await socket.accept(offered_subprotocol(subprotocols))
                async with WebSocketConnection(socket, limits=limits, metrics=gateway.metrics) as connection:
                    extensions = "muse" in socket.query_params.get("extensions", "").split(",")
                    close = await gateway.converse(call, connection, extensions=extensions)
                    if close is not None:
                        await connection.close(close)
        except Refused as refused:
            gateway.metrics.refused.labels(refused.code).inc()
            await socket.send_denial_response(refusal(refused))

    return router
