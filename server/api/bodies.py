"""A request's body, bounded in size and in time before anything is made of it."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from server.errors import Refused

BODY_SECONDS = 10.0
"""It arrives within this."""


async def read_body(request: Request, *, most: int) -> bytes:
    """The body, of `most` bytes at most. Raises Refused: 413 where it is longer, 408 or 400 where it does not come."""
    too_large = Refused(413, "too_large", f"Expected a body of at most {most} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "too_slow", f"The body did not come within {BODY_SECONDS:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "The body did not come whole.") from None
    return bytes(body)
