"""The scripted server's models, leaderboard, feedback and duels, in the shapes of docs/protocols/leaderboard.md."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.errors import error_response
from tests.clients.demo_board import demo_board, demo_history, demo_models, version
from tests.clients.demo_entries import Json

WINNERS = ("A", "B", "tie", "neither")
SIDES = ("omega/moshi-aria", "kestrel/moshi-ft-2")
"""Who hides behind A and B."""

METADATA: Mapping[str, str] = {
    "muse.model": version("omega/moshi-aria"),
    "muse.role": "incumbent",
    "muse.reasons": '[{"code": "incumbent", "text": "it leads the ranking and serves new calls"},'
    ' {"code": "fits", "text": "it speaks English and is duplex"}]',
}


@dataclass(kw_only=True)
class RoutingScript:
    """How the routing routes behave. A status other than 200 or 201 is a refusal, with `code`.

    A call that asks for `refused_model` is refused, and so is the `failing_side` of a duel (A or B); the `silent_side`
    hears everything, and answers nothing.
    """

    board: Callable[[float], Json] = demo_board
    board_status: int = 200
    models: list[Json] = field(default_factory=demo_models)
    feedback: tuple[int, str] = (201, "")
    duel: tuple[int, str] = (201, "")
    vote: tuple[int, str] = (200, "")
    metadata: Mapping[str, str] = field(default_factory=lambda: METADATA)
    refused_model: str | None = None
    failing_side: str | None = None
    silent_side: str | None = None

    def refuses_call(self, model: str) -> bool:
        """Whether a call to this model gets none."""
        side = model[-1:] if model.startswith("duel:") else None
        return model == self.refused_model or (side is not None and side == self.failing_side)


@dataclass(kw_only=True)
class Asked:
    """What the pages asked for."""

    feedback: list[Json] = field(default_factory=list)
    votes: list[Json] = field(default_factory=list)
    boards: int = 0
    unchanged: int = 0
    """Of the boards, those that the page had already."""
    duels: int = 0
    history: list[dict[str, str]] = field(default_factory=list)


class Fake(Protocol):
    """What the routes need of the server."""

    routing: RoutingScript
    asked: Asked

    def refuses(self, key: str | None) -> bool:
        """Whether this key does not open it."""


def routes(fake: Fake) -> APIRouter:
    """The routes, which check the key."""
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models(request: Request) -> JSONResponse:
        return _keyed(fake, request) or JSONResponse({"object": "list", "data": fake.routing.models})

    @router.get("/models/{model:path}")
    async def model(request: Request, model: str) -> JSONResponse:
        known = any(one["id"] == model for one in fake.routing.models)
        found = JSONResponse({}) if known else error_response(404, "model_not_found", f"There is no model {model}.")
        return _keyed(fake, request) or found

    @router.get("/leaderboard")
    async def leaderboard(request: Request) -> Response:
        fake.asked.boards += 1
        if fake.routing.board_status != 200:
            return error_response(fake.routing.board_status, "internal_error", "Something went wrong here.")
        return _keyed(fake, request) or _tagged(fake, request, JSONResponse(fake.routing.board(time.time())))

    @router.get("/leaderboard/history")
    async def history(request: Request, model: str, metric: str, days: int) -> JSONResponse:
        fake.asked.history.append({"model": model, "metric": metric, "days": str(days)})
        return _keyed(fake, request) or JSONResponse(demo_history(model, metric, days, time.time()))

    @router.post("/feedback")
    async def feedback(request: Request) -> JSONResponse:
        fake.asked.feedback.append(await request.json())
        return _keyed(fake, request) or _answer(fake.routing.feedback, {"object": "feedback"})

    @router.post("/duels")
    async def duels(request: Request) -> JSONResponse:
        fake.asked.duels += 1
        number = fake.asked.duels
        sides = [{"label": label, "model": f"duel:{number}{label}"} for label in "AB"]
        body = {"object": "duel", "id": f"duel_{number}", "sides": sides, "expires_at": time.time() + 1800}
        return _keyed(fake, request) or _answer(fake.routing.duel, body)

    @router.post("/duels/{duel_id}/vote")
    async def vote(request: Request, duel_id: str) -> JSONResponse:
        body = await request.json()
        assert body["winner"] in WINNERS
        fake.asked.votes.append({"id": duel_id, **body})
        return _keyed(fake, request) or _answer(fake.routing.vote, _revealed(body["winner"]))

    return router


def _keyed(fake: Fake, request: Request) -> JSONResponse | None:
    """A refusal for a wrong key."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
    return error_response(401, "invalid_api_key", "Incorrect API key.") if fake.refuses(key) else None


def _tagged(fake: Fake, request: Request, answer: JSONResponse) -> Response:
    """The answer with its ETag; 304 to who has it."""
    tag = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()}"'
    if request.headers.get("if-none-match") == tag:
        fake.asked.unchanged += 1
        return Response(status_code=304, headers={"ETag": tag})
    answer.headers["ETag"] = tag
    return answer


def _answer(outcome: tuple[int, str], body: dict[str, Any]) -> JSONResponse:
    status, code = outcome
    return JSONResponse(body, status) if status < 300 else error_response(status, code, f"Refused: {code}.")


def _revealed(winner: str) -> Json:
    sides = [
        {"label": label, "model": model, "version": version(model)} for label, model in zip("AB", SIDES, strict=True)
    ]
    ratings = {
        version(SIDES[0]): {"value": 1563.0, "low": 1540.0, "high": 1586.0, "votes": 212},
        version(SIDES[1]): {"value": 1525.0, "low": 1494.0, "high": 1556.0, "votes": 139},
    }
    return {"object": "vote", "winner": winner, "sides": sides, "ratings": ratings}
