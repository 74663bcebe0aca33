from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import uvloop

from server.app import create_app
from server.auth import AccessPolicy
from server.gateway import Gateway
from server.listener import Server, bind
from server.opinions import Opinions
from server.transports.websocket import WebSocketLimits


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the loop of production: transports differ between loops."""
    return {"uvloop": uvloop.new_event_loop}


class Running:
    """A server on loopback."""

    def __init__(self, gateway: Gateway, server: Server, port: int) -> None:
        self.gateway = gateway
        self.server = server
        self.port = port
        self.http = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}/v1/realtime?model=auto"

    def count(self, name: str, **labels: str) -> float:
        return self.gateway.metrics.registry.get_sample_value(name, labels) or 0.0


Serve = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve(gateway, access=..., ...) as running`: the real server in this loop, stopped at the end."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Muse</title>")
    (tmp_path / "app.js").write_text("export {};")

    @contextlib.asynccontextmanager
    async def running(
        gateway: Gateway,
        *,
        access: AccessPolicy | None = None,
        opinions: Opinions | None = None,
        limits: WebSocketLimits | None = None,
        max_message_bytes: int = 2**20,
        drain_seconds: float = 2.0,
    ) -> AsyncIterator[Running]:
        app = create_app(gateway, access=access or AccessPolicy(), opinions=opinions, limits=limits, page=tmp_path)
        server = Server(app, gateway, max_message_bytes=max_message_bytes, drain_seconds=drain_seconds)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn signals nothing
            await asyncio.sleep(0.005)
        try:
            yield Running(gateway, server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await task

    return running
