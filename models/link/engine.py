"""A worker as an engine: `ws://host:port`, specified in docs/protocols/worker.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from models.link.address import host_of, reason
from models.link.health import SCHEMES, Health, ask_health, engine_info
from models.link.session import WorkerSession
from models.link.watchdog import Watchdog
from streaming.engine import EngineInfo
from streaming.errors import EngineBusyError, EngineChangedError, EngineError, PeerError
from streaming.wire.moshi import Handshake, Metadata, decode

_MOST_MESSAGE = 32 * 2**20
_CLOSE_SECONDS = 1.0
_POLL_SECONDS = 0.5
_ALIVE = ("ok", "overloaded")
"""What a worker says of itself whose ticks go on; one that is overloaded refuses by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Times in seconds. `patience`: frames' time that a worker may be silent while frames are unanswered.

    `prepare`: how long a prompt may take to be taken in; more than a worker's `--prepare-seconds`. `start`: how long a
    worker may take to load. `sign`: between signs of a conversation that has not begun; less than a worker's
    `--first-message-seconds`. `probe`: between looks at a worker that has been silent.
    """

    patience: float = 3.0
    start: float = 300.0
    open: float = 5.0
    ping: float = 10.0
    prepare: float = 120.0
    sign: float = 10.0
    probe: float = 1.0
    send_buffer: int = 1024 * 1024


class WorkerEngine:
    """See `streaming.engine.Engine`.

    A worker that falls silent in a conversation is ejected: nobody is let in until it says that it is well again.
    Raises EngineError where `url` is not one of a worker.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], int], key: str = "", options: LinkOptions | None = None
    ) -> None:
        scheme, self._name = host_of(url, tuple(SCHEMES))
        self._address = url
        self._key = key
        self._chat = f"{scheme}://{self._name}/api/chat?audio=pcm"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._clock = clock
        self._options = options or LinkOptions()
        self._info: EngineInfo | None = None
        self._sessions: set[WorkerSession] = set()
        self._ejected = False
        self._probe: asyncio.Task[bool] | None = None
        self._probed = 0
        self._closing = False

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        if self._info is None:
            raise EngineError("the worker has not been asked what it is yet")
        return self._info

    async def start(self) -> None:
        """See `Engine.start`: waits while the worker loads."""
        deadline = self._clock() + round(self._options.start * 1e9)
        while True:
            health = await self._ask()
            if health.status != "starting":
                break
            if self._clock() > deadline:
                raise EngineError("the worker has not loaded its model in time")
            await asyncio.sleep(_POLL_SECONDS)
        if health.status not in _ALIVE:
            raise EngineError(f"the worker cannot be used: it is {health.status}")
        self._info = health.engine or engine_info(None)

    async def open(self, session_id: str) -> WorkerSession:
        """See `Engine.open`. Raises EngineChangedError where the worker is not as it was, else EngineError."""
        del session_id  # the worker has names of its own
        info = self.info
        if self._closing:
            raise EngineBusyError("the engine is closing")
        if self._ejected and not await self._is_well():
            raise EngineBusyError("the worker has fallen silent", retry_after=self._options.probe)
        connection = await self._connect()
        try:
            async with asyncio.timeout(self._options.open):
                await self._greet(connection, info)
        except (TimeoutError, WebSocketException, PeerError) as error:
            connection.transport.abort()
            raise EngineError("the worker does not speak as a worker does", detail=reason(error)) from None
        except BaseException:
            connection.transport.abort()
            raise
        session = WorkerSession(
            connection,
            info,
            clock=self._clock,
            watchdog=Watchdog(patience=self._options.patience, prepare=self._options.prepare),
            send_buffer=self._options.send_buffer,
            sign_seconds=self._options.sign,
            on_silent=self._eject,
            on_closed=self._sessions.discard,
        )
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closing = True
        if self._probe is not None:
            self._probe.cancel()
        sessions = list(self._sessions)
        for session in sessions:
            session.lose("the engine is closing")
        await asyncio.gather(*(session.close() for session in sessions))

    # --- opening -------------------------------------------------------------------------------------------------

    async def _connect(self) -> ClientConnection:
        try:
            return await connect(
                self._chat,
                additional_headers=self._headers,
                proxy=None,
                compression=None,
                max_size=_MOST_MESSAGE,
                open_timeout=self._options.open,
                ping_interval=self._options.ping,
                ping_timeout=self._options.ping,
                close_timeout=_CLOSE_SECONDS,
            )
        except InvalidStatus as error:
            raise self._refusal(error) from None
        except (OSError, TimeoutError, InvalidHandshake, ValueError) as error:
            raise EngineError("the worker cannot be reached", detail=reason(error)) from None

    def _refusal(self, error: InvalidStatus) -> EngineError:
        response = error.response
        try:
            body = json.loads(response.body or b"{}")
            code, message = str(body.get("code", "")), str(body.get("message", ""))[:200]
        except (ValueError, AttributeError, RecursionError):
            code = message = ""
        if response.status_code == 503 and code in ("full", "overloaded", "draining", "starting"):
            return EngineBusyError(f"the worker says: {message}", retry_after=_retry_after(response.headers))
        return EngineError(f"the worker refused with status {response.status_code}", detail=message or None)

    async def _greet(self, connection: ClientConnection, info: EngineInfo) -> None:
        """Raises PeerError for messages other than a worker's first two, EngineError where its engine is another."""
        hello, identity = [decode(await connection.recv(decode=False)) for _ in range(2)]
        match hello, identity:
            case Handshake(), Metadata(values={"type": "session", "engine": engine}):
                offered = engine_info(engine)
                if offered != info:
                    raise EngineChangedError(f"the worker has another engine than it had: {offered.model}")
            case _:
                raise PeerError("expected a handshake and metadata of the session", code="invalid_message")

    # --- health --------------------------------------------------------------------------------------------------

    def _eject(self) -> None:
        self._ejected = True
        self._probed = self._clock()

    async def _is_well(self) -> bool:
        """Whether the worker may be used again. It is asked once at a time, and not more often than the options say."""
        if self._probe is None:
            if self._clock() - self._probed < self._options.probe * 1e9:
                return False
            self._probe = asyncio.create_task(self._look())
        return await asyncio.shield(self._probe)

    async def _look(self) -> bool:
        try:
            async with asyncio.timeout(self._options.open):
                well = (await self._ask()).status in _ALIVE
        except (EngineError, TimeoutError):
            well = False
        self._probed, self._probe = self._clock(), None
        self._ejected = not well
        return well

    async def _ask(self) -> Health:
        async with httpx.AsyncClient(timeout=self._options.open, trust_env=False) as client:
            return await ask_health(self._address, client, key=self._key)


def _retry_after(headers: Any) -> float:
    try:
        return min(max(float(headers.get("Retry-After", "5")), 0.0), 600.0)
    except ValueError:
        return 5.0
