"""The ASGI application: the routes over one gateway."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI

from server.api.duels import duels_router
from server.api.errors import add_error_handlers
from server.api.feedback import feedback_router
from server.api.health import health_router
from server.api.models import models_router
from server.api.page import PAGE, SecurityHeaders, add_page
from server.auth import AccessPolicy
from server.duel_door import DuelDoor
from server.gateway import Gateway
from server.opinions import Opinions
from server.transports.moshi_websocket import moshi_router
from server.transports.openai_websocket import realtime_router
from server.transports.websocket import WebSocketLimits


def create_app(
    gateway: Gateway,
    *,
    access: AccessPolicy,
    opinions: Opinions | None = None,
    limits: WebSocketLimits | None = None,
    page: Path = PAGE,
    recording: bool = False,
) -> FastAPI:
    """The application. Its lifespan starts the gateway, unless that has been done, and closes it.

    `opinions`: where ratings and duels are kept. `recording`: conversations are recorded, and the page must say so.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(title="Muse", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(SecurityHeaders)
    add_error_handlers(app)
    app.include_router(health_router(gateway, access))
    app.include_router(models_router(gateway, access))
    door: DuelDoor | None = None
    if opinions is not None:
        door = DuelDoor(opinions.duels)
        app.include_router(feedback_router(opinions, access))
        app.include_router(duels_router(opinions, gateway.router, access))
    app.include_router(realtime_router(gateway, access, limits or WebSocketLimits(), door))
    app.include_router(moshi_router(gateway, access, limits or WebSocketLimits(), door))
    add_page(app, directory=page, recording=recording)
    return app
