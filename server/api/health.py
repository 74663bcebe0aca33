"""Is the server alive, would it take a caller, and how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from server.auth import AccessPolicy
from server.gateway import Gateway


def health_router(gateway: Gateway, access: AccessPolicy) -> APIRouter:
    """`/healthz` and `/readyz` for anyone, `/metrics` for holders of the key."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        if gateway.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, 503, {"Retry-After": "10"})

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        access.check_key(request.headers)
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
