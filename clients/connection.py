"""Reaching a server over a WebSocket, and saying in plain words why that did not work or no longer does."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection

from clients.errors import DisconnectedError, RefusedError, UnreachableError

_MAX_MESSAGE = 16 * 2**20


async def reach(address: str, *, api_key: str | None) -> ClientConnection:
    """An open connection. Raises UnreachableError or RefusedError."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    host = urlsplit(address).netloc
    try:
        return await open_connection(address, additional_headers=headers, max_size=_MAX_MESSAGE)
    except websockets.InvalidStatus as refusal:
        raise _refused(host, refusal) from None
    except websockets.InvalidURI:
        raise UnreachableError(f"{address} is not a WebSocket address (ws://host:port/path)") from None
    except (OSError, TimeoutError, websockets.InvalidHandshake) as error:
        raise UnreachableError(f"no server answers at {host} ({error})") from None


def disconnected(closed: websockets.ConnectionClosed) -> DisconnectedError:
    """The end of a connection as this package's error."""
    code = closed.rcvd.code if closed.rcvd else 1006
    reason = closed.rcvd.reason if closed.rcvd else ""
    return DisconnectedError(f"the server closed the connection: {reason or f'code {code}'}", code=code)


def _refused(host: str, refusal: websockets.InvalidStatus) -> RefusedError:
    status = refusal.response.status_code
    try:
        body = json.loads(refusal.response.body)
        reason = str(body.get("error", body)["message"])[:200]  # a gateway's error, or a worker's
    except (ValueError, TypeError, KeyError, AttributeError):
        reason = f"HTTP {status}"
    return RefusedError(f"the server at {host} refused: {reason}", status=status)
