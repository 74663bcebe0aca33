"""OpenAI Realtime over a WebSocket: `/v1/realtime?model=`. Text frames of JSON, both ways.

`extensions=muse` in the query asks for Muse's own events as well.
"""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from server.auth import AccessPolicy, offered_subprotocol
from server.driver import ConnectionOverError
from server.duel_door import DuelDoor
from server.gateway import Call, Gateway
from server.transports.websocket import MessageSocket, WebSocketLimits, admit
from streaming.client_events import ClientEvent
from streaming.observations import CloseSession
from streaming.server_events import ServerEvent
from streaming.wire.openai_realtime import decode_client, encode_server


class RealtimeConnection:
    """The driver's view of one client."""

    def __init__(self, socket: MessageSocket) -> None:
        self._socket = socket

    async def receive(self) -> ClientEvent:
        """The next event. Raises PeerError, or ConnectionOverError."""
        message = await self._socket.receive()
        if isinstance(message, bytes):
            raise ConnectionOverError(CloseSession(code=1003, reason="Events are JSON in text frames."))
        return decode_client(message)

    def send(self, event: ServerEvent) -> None:
        """Queue an event. Raises SlowConsumerError when too much is queued already."""
        self._socket.send(encode_server(event))


def realtime_router(
    gateway: Gateway, access: AccessPolicy, limits: WebSocketLimits, duels: DuelDoor | None = None
) -> APIRouter:
    """The route of the conversations."""
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        async def talk(call: Call) -> None:
            await socket.accept(offered_subprotocol(socket.scope.get("subprotocols", [])))
            async with MessageSocket(socket, limits=limits, metrics=gateway.metrics) as messages:
                extensions = "muse" in socket.query_params.get("extensions", "").split(",")
                close = await gateway.converse(call, RealtimeConnection(messages), extensions=extensions)
                if close is not None:
                    await messages.close(close)

        await admit(socket, gateway=gateway, access=access, duels=duels, talk=talk)

    return router
