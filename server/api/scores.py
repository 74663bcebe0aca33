"""`POST /v1/scores`: where validators deliver what they measured. See docs/protocols/leaderboard.md."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from routing.scores.errors import NotAValidatorError, NotListedError, TooManyScoresError, UnsignedError
from routing.scores.intake import Intake
from routing.scores.submission import MOST_BYTES
from server.api.errors import error_response
from server.errors import Refused
from streaming.errors import EngineError, PeerError

_BODY_SECONDS = 10.0  # as long as a signature is fresh
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
            body = await _body(request)
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


async def _body(request: Request) -> bytes:
    """The body, bounded in size and time before anything else is made of it."""
    too_large = Refused(413, "too_large", f"A submission has at most {MOST_BYTES} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MOST_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "too_slow", f"The body did not come within {_BODY_SECONDS:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "The body did not come whole.") from None
    return bytes(body)


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
    # A name in the body may hold half of a surrogate pair, which no answer can.
    message, param = (text and text.encode(errors="backslashreplace").decode() for text in (error.message, error.param))
    return error_response(status, error.code, message or "", param=param, headers=headers)
