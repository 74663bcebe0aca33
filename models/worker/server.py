"""The worker's port: WebSockets at `/api/chat`, and beside them `GET /health`, `/slots` and `/metrics`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin

from models import sockets
from models.worker.ending import DRAINING, Ending, failed
from models.worker.host import Host
from models.worker.metrics import WorkerMetrics
from models.worker.opening import Opening
from models.worker.settings import WorkerSettings
from models.worker.slots import Slot, Slots
from streaming.errors import EngineError, PeerError
from streaming.schema import to_json
from streaming.wire.moshi import encode

_log = logging.getLogger(__name__)

PATH = "/api/chat"
RETRY_SECONDS = 5
_CLOSE_SECONDS = 2.0
_CLAIM_SECONDS = 15.0
"""How long a slot is kept for a client whose connection breaks between the answer to it and its first task."""

_PRIVATE_CODES = 3000
"""From here on a client chooses as it likes, and each would be a time series."""

_RECEIVE_BYTES = 32 * 1024
"""What the kernel keeps for a duplex client that floods: the fewer messages are parsed at once, the less time they take
from a tick."""


class WorkerServer:
    """Serves one host."""

    def __init__(
        self, host: Host, settings: WorkerSettings, *, clock: Callable[[], int], metrics: WorkerMetrics
    ) -> None:
        self._host = host
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._slots = Slots(settings.slots)
        self._held: dict[ServerConnection, tuple[Slot, Opening]] = {}
        self._talking: set[asyncio.Task[None]] = set()
        self._draining = False
        self._server: Server | None = None

    # --- life ----------------------------------------------------------------------------------------------------

    async def listen(self, listener: socket.socket) -> None:
        """Answer from now on; conversations are refused until the host has been loaded."""
        self._server = await serve(
            self._converse,
            sock=listener,
            origins=_origins(self._settings.allowed_origins),
            process_request=self._answer,
            process_response=self._reserve,
            compression=None,  # audio hardly shrinks, and bombs expand
            max_size=self._host.most_message_bytes,
            open_timeout=self._settings.handshake_seconds,
            ping_interval=self._settings.ping_seconds,
            ping_timeout=self._settings.ping_seconds,
            close_timeout=_CLOSE_SECONDS,
            server_header=None,
        )

    async def drain(self, seconds: float) -> None:
        """Admit nobody more, and let the conversations go on for so long; then end them with 1012."""
        self._draining = True
        if self._talking:
            await asyncio.wait(self._talking, timeout=seconds)
        self._host.end_all(DRAINING)
        if self._talking and self._host.status != "stalled":  # nobody can leave a model that hangs
            await asyncio.wait(self._talking, timeout=2 * _CLOSE_SECONDS)

    async def close(self) -> None:
        """Stop answering; conversations that are still open end."""
        self._draining = True
        if self._server is not None:
            self._server.close(code=1012)
            await self._server.wait_closed()

    @property
    def status(self) -> str:
        """See `/health`."""
        status = self._host.status
        return "draining" if self._draining and status in ("ok", "overloaded") else status

    # --- before the upgrade --------------------------------------------------------------------------------------

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        """An answer to a plain request, or a refusal; None for what may be upgraded."""
        url = urlsplit(request.path)
        if url.path == "/health":
            return self._health()
        if not self._is_allowed(request):
            return self._refuse(HTTPStatus.UNAUTHORIZED, "invalid_key", "send the worker's key as a Bearer token")
        match url.path:
            case "/slots":
                return _json(HTTPStatus.OK, self._slot_list())
            case "/metrics":
                return _response(HTTPStatus.OK, self._render_metrics(), CONTENT_TYPE_LATEST)
            case path if path == PATH:
                return self._check(url.query)
        return _json(HTTPStatus.NOT_FOUND, {"code": "not_found", "message": f"conversations are at {PATH}"})

    def _check(self, query: str) -> Response | None:
        try:
            self._host.check(Opening.parse(query))
        except PeerError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, error.code, error.message)
        if (status := self.status) != "ok":
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, status, f"the worker is {status}; try again")
        if not self._slots.free:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "full", "all slots are taken; try again")
        return None

    def _reserve(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Reserve a slot for a client that is about to be upgraded: from here on nothing can refuse it."""
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        slot = self._slots.reserve(f"talk_{secrets.token_hex(8)}", self._clock())
        if slot is None:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "full", "all slots are taken; try again")
        self._held[connection] = slot, Opening.parse(urlsplit(request.path).query)
        asyncio.get_running_loop().call_later(_CLAIM_SECONDS, self._give_up, connection)
        return None

    def _give_up(self, connection: ServerConnection) -> None:
        if (held := self._held.pop(connection, None)) is not None:
            self._slots.release(held[0], self._clock())

    def _is_allowed(self, request: Request) -> bool:
        if self._settings.key is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        key = self._settings.key.get_secret_value().encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="replace"), key)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> Response:
        self._metrics.refused.labels(code).inc()
        response = _json(status, {"code": code, "message": message})
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    # --- beside the conversations --------------------------------------------------------------------------------

    def _health(self) -> Response:
        status = self.status
        loaded = status != "starting"
        health = {
            "status": status,
            "engine": to_json(self._host.info) if loaded else None,
            "slots": len(self._slots),
            "free": self._slots.free,
        }
        return _json(HTTPStatus.OK if status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE, health)

    def _slot_list(self) -> list[dict[str, Any]]:
        now = self._clock()
        return [
            {
                "slot": slot.index,
                "state": slot.state,
                "session": slot.session,
                "seconds": round((now - slot.since) / 1e9, 1) if slot.since else 0,
                **self._host.numbers(slot),
            }
            for slot in self._slots.all
        ]

    def _render_metrics(self) -> bytes:
        self._metrics.count_slots(slot.state for slot in self._slots.all)
        return self._metrics.render()

    # --- a conversation ------------------------------------------------------------------------------------------

    async def _converse(self, connection: ServerConnection) -> None:
        held = self._held.pop(connection, None)
        if held is None:
            return
        slot, opening = held
        task = asyncio.current_task()
        if task is not None:
            self._talking.add(task)
            task.add_done_callback(self._talking.discard)
        session, began = slot.session, self._clock()
        ending: Ending | None = failed("the conversation cannot be held")
        try:
            ending = await self._host.converse(connection, slot, opening)
        except EngineError as error:
            ending = failed(error.message)
        finally:
            self._slots.release(slot, self._clock())
            await _say_goodbye(connection, ending)
            code = ending.code if ending else connection.close_code or 1006
            self._metrics.closed.labels(str(code) if code < _PRIVATE_CODES else "private").inc()
            seconds = (self._clock() - began) / 1e9
            _log.info("conversation over: session=%s code=%d seconds=%.1f", session, code, seconds)


async def _say_goodbye(connection: ServerConnection, ending: Ending | None) -> None:
    if ending is None:
        return
    with contextlib.suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.send(encode(ending.error))
        await connection.close(ending.code, ending.error.code)
        return
    connection.transport.abort()


def bind(host: str, port: int, *, duplex: bool) -> socket.socket:
    """A socket bound to the address. Raises OSError where that cannot be."""
    return sockets.bind(host, port, receive_bytes=_RECEIVE_BYTES if duplex else None)


def _origins(allowed: tuple[str, ...]) -> list[Origin | None] | None:
    """The worker has no page, so that the page behind any origin is foreign. What is not a browser sends none."""
    return None if "*" in allowed else [None, *map(Origin, allowed)]


def _json(status: HTTPStatus, value: object) -> Response:
    return _response(status, json.dumps(value).encode(), "application/json")


def _response(status: HTTPStatus, body: bytes, content_type: str) -> Response:
    headers = Headers([("Content-Type", content_type), ("Content-Length", str(len(body))), ("Connection", "close")])
    return Response(status.value, status.phrase, headers, body)
