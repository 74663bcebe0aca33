"""`/v1/leaderboard`: how the models stand, how they stood, and what a session would get. See docs/protocols."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from routing.needs import read_needs
from routing.opening import Routing
from routing.policy.ranking import names
from routing.scores.metrics import METRICS
from routing.scores.standings import TOTAL
from routing.view import view_decision
from server.api.errors import error_response
from server.auth import AccessPolicy
from server.board import Board
from server.errors import Refused
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.schema import to_json

MOST_DAYS = 365
_MOST_SESSION_ID = 200
_DAY = 86_400.0


def leaderboard_router(
    board: Board, routing: Routing, access: AccessPolicy, *, now: Callable[[], float] = time.time
) -> APIRouter:
    """The routes. `now` gives Unix time (s)."""
    routes = APIRouter(prefix="/v1/leaderboard")

    @routes.get("")
    async def leaderboard(request: Request) -> Response:
        access.check_key(request.headers)
        page = await board.page()
        headers = {"ETag": page.etag, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == page.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(page.gzipped, headers=headers, media_type="application/json")
        return Response(page.plain, headers=headers, media_type="application/json")

    @routes.get("/history")
    async def history(request: Request) -> JSONResponse:
        access.check_key(request.headers)
        try:
            version = _version(routing, request.query_params.get("model", ""))
            metric, days = _metric(request.query_params), _days(request.query_params)
            points = await routing.scores.history(version, metric, since=now() - days * _DAY)
        except PeerError as error:
            return _refusal(error)
        except EngineError as error:
            raise Refused(503, error.code, "The scores cannot be read now; try again.", retry_after=10) from None
        shown = [to_json(point) for point in points]
        return JSONResponse({"object": "history", "version": version, "metric": metric, "points": shown})

    @routes.get("/explain")
    async def explain(request: Request) -> JSONResponse:
        access.check_key(request.headers)
        try:
            session_id = _session(request.query_params)
            choice = routing.router.choose(read_needs(request.query_params), session_id=session_id)
        except PeerError as error:
            return _refusal(error)
        except EngineBusyError as error:
            raise Refused(503, error.code, error.message, retry_after=error.retry_after) from None
        return JSONResponse(to_json(view_decision(choice)))

    return routes


def _version(routing: Routing, name: str) -> str:
    """The version that a name means: the best-ranked where it is a model's."""
    found = next((ranked.key for ranked in routing.router.ranking() if names(ranked, (name,))), None)
    if found is None:
        raise PeerError(
            f"model: expected a model of the leaderboard, or one version of it, got {name[:200]!r}",
            code="model_not_found",
            param="model",
        )
    return found


def _metric(query: Mapping[str, str]) -> str:
    name = query.get("metric") or TOTAL
    if name not in METRICS:
        expected = ", ".join(METRICS)
        raise PeerError(f"metric: expected one of {expected}; got {name[:60]!r}", code="invalid_value", param="metric")
    return name


def _days(query: Mapping[str, str]) -> int:
    text = query.get("days") or "30"
    days = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if not 1 <= days <= MOST_DAYS:
        message = f"days: expected an integer from 1 to {MOST_DAYS}, got {text[:60]!r}"
        raise PeerError(message, code="invalid_value", param="days")
    return days


def _session(query: Mapping[str, str]) -> str:
    session_id = query.get("session", "")
    if len(session_id) > _MOST_SESSION_ID:
        message = f"session: expected at most {_MOST_SESSION_ID} characters"
        raise PeerError(message, code="invalid_value", param="session")
    return session_id


def _refusal(error: PeerError) -> JSONResponse:
    status = 404 if error.code in ("model_not_found", "model_not_served") else 400
    return error_response(status, error.code, error.message, param=error.param)
