"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from server.errors import Refused

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_response(
    status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as clients of OpenAI's API expect it."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"error": {"message": _encodable(message), "type": kind, "param": param and _encodable(param), "code": code}}
    return JSONResponse(body, status, headers)


def refusal(refused: Refused) -> JSONResponse:
    """The answer to a refused request."""
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refused.retry_after))
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return error_response(refused.status, refused.code, refused.message, param=refused.param, headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` an OpenAI error. The text of an unforeseen exception stays in the log."""

    @app.exception_handler(Refused)
    async def _refused(_: Request, error: Refused) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return error_response(error.status_code, code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return error_response(400, "invalid_value", first["msg"], param=".".join(str(part) for part in first["loc"]))

    @app.exception_handler(Exception)
    async def _defect(_: Request, __: Exception) -> JSONResponse:
        return error_response(500, "internal_error", "Something went wrong here.")


def _encodable(text: str) -> str:
    """`text` may repeat a name that was sent, which may hold half of a surrogate pair; an answer cannot."""
    return text.encode(errors="backslashreplace").decode()
