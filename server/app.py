"""The ASGI application: the routes over one gateway."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from routing.opening import Routing
from server.api.duels import duels_router
from server.api.errors import add_error_handlers
from server.api.feedback import feedback_router
from server.api.health import health_router
from server.api.leaderboard import leaderboard_router
from server.api.models import models_router
from server.api.page import PAGE, SecurityHeaders, add_page
from server.api.scores import scores_router
from server.auth import AccessPolicy
from server.board import Board, gather
from server.gateway import Gateway
from server.opinions import Opinions
from server.transports.moshi_websocket import moshi_router
from server.transports.openai_websocket import realtime_router
from server.transports.websocket import WebSocketLimits


def create_app(
    gateway: Gateway,
    *,
    access: AccessPolicy,
    routing: Routing | None = None,
    opinions: Opinions | None = None,
    limits: WebSocketLimits | None = None,
    page: Path = PAGE,
    recording: bool = False,
) -> FastAPI:
    """The application. Its lifespan starts the gateway, unless that has been done, and closes it.

    `opinions`, which hang on the gateway's turns, are behind feedback and duels; `routing`, with them, is behind the
    leaderboard and scores: none is there without. `recording`: conversations are recorded, and the page must say so.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            if routing is not None:
                await routing.control.close()
            await gateway.close()

    app = FastAPI(title="Muse", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(SecurityHeaders)
    add_error_handlers(app)
    app.include_router(health_router(gateway, access))
    app.include_router(models_router(gateway.router, access))
    if routing is not None and opinions is not None:
        _add_leaderboard(app, routing, opinions, access)
    if opinions is not None:
        app.include_router(feedback_router(opinions, access))
        app.include_router(duels_router(opinions, gateway.router, access))
    duels = None if opinions is None else opinions.door
    limits = limits or WebSocketLimits()
    app.include_router(realtime_router(gateway, access, limits, duels))
    app.include_router(moshi_router(gateway, access, limits, duels))
    add_page(app, directory=page, recording=recording)
    return app


def _add_leaderboard(app: FastAPI, routing: Routing, opinions: Opinions, access: AccessPolicy) -> None:
    app.include_router(leaderboard_router(Board(partial(gather, routing, opinions)), routing, access))
    app.include_router(scores_router(routing.intake))
