"""`POST /v1/feedback`: what the user thought of a turn. Nothing of it is logged."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from routing.feedback.form import read_feedback
from server.api.errors import error_response
from server.api.guard import Guard
from server.auth import AccessPolicy
from server.errors import Refused
from server.opinions import Opinions
from streaming.errors import EngineError, PeerError

RATE, BURST = 10.0, 50.0
"""Ratings a second, and at once, of all users of this process. Each needs a turn of its own besides."""

_STATUS = {"turn_not_found": 404, "already_rated": 409, "too_many_ratings": 429}


def feedback_router(opinions: Opinions, access: AccessPolicy) -> APIRouter:
    """The route of ratings."""
    router = APIRouter()
    guard = Guard(access, rate=RATE, burst=BURST)

    @router.post("/v1/feedback")
    async def rate(request: Request) -> JSONResponse:
        try:
            await opinions.rate(read_feedback(await guard.read(request)))
        except PeerError as error:
            return error_response(_STATUS.get(error.code, 400), error.code, error.message, param=error.param)
        except EngineError as error:
            raise Refused(503, error.code, "The rating cannot be kept now; try again.", retry_after=10) from None
        return JSONResponse({"object": "feedback"}, 201)

    return router
