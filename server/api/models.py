"""`/v1/models`: what this server offers, in OpenAI's list shape."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from routing.policy.choice import AUTO
from server.auth import AccessPolicy
from server.errors import Refused
from server.gateway import Gateway


def models_router(gateway: Gateway, access: AccessPolicy) -> APIRouter:
    """The list, and each of its entries by id; `auto` stands for the best of them."""
    router = APIRouter(prefix="/v1/models")

    @router.get("")
    async def list_models(request: Request) -> JSONResponse:
        access.check_key(request.headers)
        return JSONResponse({"object": "list", "data": [_entry(model) for model in (AUTO, *gateway.models)]})

    @router.get("/{model:path}")
    async def get_model(model: str, request: Request) -> JSONResponse:
        access.check_key(request.headers)
        if model not in (AUTO, *gateway.models):
            raise Refused(404, "model_not_found", "There is no such model here; see /v1/models.")
        return JSONResponse(_entry(model))

    return router


def _entry(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "muse"}
