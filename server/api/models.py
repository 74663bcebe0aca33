"""`/v1/models`: what this server offers, in OpenAI's list shape, and of each what that has no field for."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from routing.policy.choice import AUTO
from routing.protocol import ServedView
from routing.router import Router
from routing.view import view_served
from server.auth import AccessPolicy
from server.errors import Refused
from streaming.schema import to_json


def models_router(router: Router, access: AccessPolicy) -> APIRouter:
    """The list, and each of its entries by id or by version; `auto` leaves the choice to the router."""
    routes = APIRouter(prefix="/v1/models")

    @routes.get("")
    async def list_models(request: Request) -> JSONResponse:
        access.check_key(request.headers)
        best: dict[str, ServedView] = {}
        for model in _served(router):
            best.setdefault(model.id, model)
        listed = [_entry(model) for model in best.values()]
        return JSONResponse({"object": "list", "data": [_basic(AUTO, "muse"), *listed]})

    @routes.get("/{name:path}")
    async def get_model(name: str, request: Request) -> JSONResponse:
        access.check_key(request.headers)
        if name == AUTO:
            return JSONResponse(_basic(AUTO, "muse"))
        for model in _served(router):
            if name in (model.id, model.version):
                return JSONResponse(_entry(model))
        raise Refused(404, "model_not_found", "There is no such model here; see /v1/models.")

    return routes


def _served(router: Router) -> tuple[ServedView, ...]:
    return view_served(
        ranking=router.ranking(), workers=router.fleet.workers(), rollout=router.rollout, serving=router.serving()
    )


def _basic(name: str, owner: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _entry(model: ServedView) -> dict[str, object]:
    told = to_json(model)
    name, owner = told.pop("id"), told.pop("hotkey")
    return _basic(name, owner or "muse") | {"muse": told}
