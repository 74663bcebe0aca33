"""Listening, and stopping without cutting anyone off."""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from models import sockets
from server.errors import StartupError
from server.gateway import Gateway
from server.protocols import HttpProtocol, WebSocketProtocol

_log = logging.getLogger(__name__)

_BACKLOG = 512


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet. Raises StartupError where that cannot be."""
    try:
        return sockets.bind(host, port)
    except OSError as error:
        raise StartupError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def url_of(listener: socket.socket) -> str:
    """Where the server that listens there is found."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, which at SIGTERM or SIGINT first lets the gateway finish its conversations.

    It goes on listening meanwhile, so that new callers get an answer. A second signal stops at once.
    """

    def __init__(self, app: FastAPI, gateway: Gateway, *, max_message_bytes: int, drain_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=max_message_bytes,
            ws_ping_interval=15.0,  # with the time-out, a dead client is gone within 30 s
            ws_ping_timeout=15.0,
            ws_per_message_deflate=False,  # audio in base64 hardly shrinks, and bombs expand
            loop="uvloop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._gateway = gateway
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        for listener in sockets or []:
            _log.info("ready", extra={"fields": {"url": url_of(listener), "models": ",".join(self._gateway.models)}})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop."""
        _log.info("stopping", extra={"fields": {"sessions": self._gateway.active}})
        draining = asyncio.ensure_future(self._gateway.drain(self._drain_seconds))
        while not draining.done() and not self.force_exit:
            await asyncio.wait([draining], timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)
