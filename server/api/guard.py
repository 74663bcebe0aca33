"""What is asked of a request that makes the server keep something, before anything of it is believed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NoReturn

from fastapi import Request

from server.api.bodies import read_body
from server.auth import AccessPolicy
from server.errors import Refused
from server.protocols import Allowance

MOST_BYTES = 16 * 1024
"""A body: a comment of a thousand characters, each escaped as a pair of surrogates, and what goes with it."""


class Guard:
    """Lets requests through to one endpoint, `rate` a second and `burst` at once, whoever sends them.

    Pages of foreign origins are refused, and so is any body that is not declared as JSON: a browser does not let a page
    send that across origins without asking, which nobody answers here. `clock` is monotonic, in seconds.
    """

    def __init__(
        self, access: AccessPolicy, *, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._access = access
        self._rate = rate
        self._allowance = Allowance(rate, burst)
        self._clock = clock

    async def read(self, request: Request) -> object:
        """The body's JSON. Raises Refused with what is wrong."""
        self._access.check_origin(request.headers)
        self._access.check_key(request.headers)
        if not self._allowance.take(self._clock()):
            raise Refused(429, "rate_limit_exceeded", "Too many of these; try again.", retry_after=1 / self._rate)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "unsupported_media_type", "Expected a body of the type application/json.")
        body = await read_body(request, most=MOST_BYTES)
        try:
            return json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):  # not UTF-8, not JSON, digits without end, nesting without end
            raise Refused(400, "invalid_json", "The body is not valid JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON
