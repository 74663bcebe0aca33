"""What a worker says of itself at `GET /health`: see docs/protocols/worker.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from models.link.address import host_of, reason
from streaming.engine import EngineInfo
from streaming.errors import EngineError, PeerError
from streaming.schema import from_json

SCHEMES = {"ws": "http", "wss": "https"}

_MOST_BYTES = 64 * 1024
_MOST_SLOTS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`status` as in the protocol; `engine` is None while it loads, `slots` and `free` where it does not say."""

    status: str
    engine: EngineInfo | None = None
    slots: int | None = None
    free: int | None = None


async def ask_health(address: str, client: httpx.AsyncClient, *, key: str = "") -> Health:
    """Ask the worker at ws://host:port or wss://host:port; `client` bounds the time of each step, not of the whole.

    Raises EngineError where it cannot be reached, is no worker, or does not say what it is.
    """
    scheme, name = host_of(address, tuple(SCHEMES))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    value = _parse(await _read(client, f"{SCHEMES[scheme]}://{name}/health", headers))
    if not isinstance(value, dict):
        raise EngineError("it is not a worker: its /health is not a JSON object")
    engine = value.get("engine")
    return Health(
        status=str(value.get("status"))[:40],
        engine=None if engine is None else engine_info(engine),
        slots=_count(value.get("slots")),
        free=_count(value.get("free")),
    )


def engine_info(value: object) -> EngineInfo:
    """What a worker says of its engine. Raises EngineError where that cannot be read."""
    try:
        return from_json(EngineInfo, value, path="engine")
    except PeerError as error:
        raise EngineError(f"the worker does not say what it is: {error.message}") from None


async def _read(client: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> bytes:
    body = b""
    try:
        async with client.stream("GET", url, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    return b""
    except httpx.HTTPError as error:
        raise EngineError("the worker cannot be reached", detail=reason(error)) from None
    return body


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_SLOTS else None
