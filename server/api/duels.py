"""`/v1/duels`: two models that the user talks to without knowing which they are, and the vote between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from routing.duels.duels import Duel
from routing.duels.votes import Winner
from routing.router import Router
from server.api.errors import error_response
from server.api.guard import Guard
from server.auth import AccessPolicy
from server.duel_door import model_name
from server.errors import Refused
from server.opinions import Opinions
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.schema import from_json, to_json

DUEL_RATE, DUEL_BURST = 0.5, 20.0
"""Duels a second, and at once, of all users of this process: in half an hour fewer than may be open at once."""

VOTE_RATE, VOTE_BURST = 1.0, 20.0
"""Votes. Each needs a duel of its own besides."""

_STATUS = {
    "not_enough_models": 409,
    "duel_not_found": 404,
    "already_voted": 409,
    "not_answered": 409,
    "too_many_votes": 429,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDuel:
    """What is asked of a duel: nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Which side was better."""

    winner: Winner


def duels_router(
    opinions: Opinions, router: Router, access: AccessPolicy, *, now: Callable[[], float] = time.time
) -> APIRouter:
    """The routes of duels between the models of `router`. `now` gives Unix time (s)."""
    routes = APIRouter(prefix="/v1/duels")
    opening = Guard(access, rate=DUEL_RATE, burst=DUEL_BURST)
    voting = Guard(access, rate=VOTE_RATE, burst=VOTE_BURST)

    @routes.post("")
    async def open_duel(request: Request) -> JSONResponse:
        try:
            from_json(NewDuel, await opening.read(request), path="")
            duel = await opinions.open_duel(router)
        except PeerError as error:
            return _refusal(error)
        except EngineBusyError as error:
            raise Refused(503, "too_many_duels", error.message, retry_after=error.retry_after) from None
        except EngineError as error:
            raise Refused(503, error.code, "No duel can be opened now; try again.", retry_after=10) from None
        expires_at = now() + opinions.duels.lifetime / 1e9
        sides = [{"label": side.label, "model": model_name(side.token)} for side in duel.sides]
        return JSONResponse({"object": "duel", "id": duel.id, "sides": sides, "expires_at": expires_at}, 201)

    @routes.post("/{duel_id}/vote")
    async def vote(duel_id: str, request: Request) -> JSONResponse:
        try:
            given = from_json(Vote, await voting.read(request), path="")
            duel = await opinions.vote(duel_id, given.winner)
        except PeerError as error:
            return _refusal(error)
        except EngineError as error:
            raise Refused(503, error.code, "The vote cannot be kept now; try again.", retry_after=10) from None
        return JSONResponse({"object": "vote", "winner": given.winner, **await _revealed(duel)})

    async def _revealed(duel: Duel) -> dict[str, object]:
        ratings = await opinions.ratings()
        contenders = {side.label: side.contender for side in duel.sides}
        rated = {contender.version: ratings.get(contender.version) for contender in contenders.values()}
        return {
            "sides": [{"label": label, **to_json(contender)} for label, contender in contenders.items()],
            "ratings": {version: rating and to_json(rating) for version, rating in rated.items()},
        }

    return routes


def _refusal(error: PeerError) -> JSONResponse:
    return error_response(_STATUS.get(error.code, 400), error.code, error.message, param=error.param)
