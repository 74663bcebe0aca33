"""`POST /v1/scores`: where validators deliver what they measured. See docs/protocols/leaderboard.md."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from routing.scores.errors import NotAValidatorError, NotListedError, TooManyScoresError, UnsignedError
from routing.scores.intake import Intake
from routing.scores.submission import MOST_BYTES
from server.api.bodies import read_body
from server.api.errors import error_response
from server.errors import Refused
from streaming.errors import EngineError, PeerError

_RETRY_SECONDS = 30

_STATUSES: tuple[tuple[type[PeerError], int], ...] = (
    (UnsignedError, 401),
    (NotAValidatorError, 403),
    (NotListedError, 404),
    (TooManyScoresError, 429),
    (PeerError, 422),
)


def scores_router(intake: Intake | None, *, clock: Callable[[], float] = time.time) -> APIRouter:
    """The route. `intake` is None where scores are not kept; `clock` gives Unix time (s)."""
    router = APIRouter()

    @router.post("/v1/scores")
    async def post_scores(request: Request) -> JSONResponse:
        if intake is None:
            raise Refused(503, "scores_not_taken", "This server takes no scores.")
        try:
            intake.check_sender(request.headers)
            body = await read_body(request, most=MOST_BYTES)
            receipt = await intake.take(
                request.headers, body, method=request.method, target=_target(request), now=clock()
            )
        except PeerError as error:
            return _refusal(error)
        except EngineError as error:
            passes = error.code != "scores_not_taken"
            raise Refused(503, error.code, error.message, retry_after=_RETRY_SECONDS if passes else None) from None
        answer = {"object": "submission", "id": receipt.id, "accepted": receipt.accepted}
        return JSONResponse(answer, 201)

    return router


def _target(request: Request) -> str:
    """The request's target exactly as it was sent, which is what is signed."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _refusal(error: PeerError) -> JSONResponse:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    headers = {}
    if isinstance(error, UnsignedError):
        headers["WWW-Authenticate"] = "btauth/1"
    if isinstance(error, TooManyScoresError):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return error_response(status, error.code, error.message, param=error.param, headers=headers)
