"""The engine, the detectors and the conversations that share them: who is let in, and how all are let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from routing.catalogue import Catalogue, UnknownModelError
from server.driver import Connection, Driver, Models, SessionCore
from server.errors import Refused
from server.metrics import Metrics
from server.stalls import sample_stalls
from streaming.engine import Engine, EngineInfo, EngineSession, TurnDetector, VoiceActivityDetector
from streaming.errors import EngineBusyError, EngineError
from streaming.observations import CloseSession

_log = logging.getLogger(__name__)

OPEN_SECONDS = 5.0
"""What an engine may take to reserve a slot."""

RELEASE_SECONDS = 5.0
"""What an engine may take to release one."""

_FLUSH_SECONDS = 2.0
_NOTICE = "The server is restarting: this conversation ends with the current turn."


class SessionFactory(Protocol):
    """Makes the session of one conversation."""

    def __call__(
        self,
        *,
        session_id: str,
        model: str,
        engine: EngineInfo,
        extensions: bool,
        lead: int | None = None,
        now: int,
    ) -> SessionCore:
        """A new session; `now` is monotonic ns. `lead`: see `SessionOptions`; None leaves it to the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """The models that find speech and the ends of turns, shared by all conversations."""

    voice: VoiceActivityDetector
    turns: TurnDetector


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One conversation that has been let in."""

    session_id: str
    model: str
    engine: EngineSession


class Gateway:
    """Admits conversations to one engine and runs them.

    `first_event` is how many seconds a client may take to send anything; `clock` gives monotonic ns.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        detectors: Detectors,
        new_session: SessionFactory,
        metrics: Metrics,
        max_sessions: int,
        first_event: float = 30.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.metrics = metrics
        self._engine = engine
        self._detectors = detectors
        self._new_session = new_session
        self._max_sessions = max_sessions
        self._first_event = first_event
        self._clock = clock
        self._catalogue: Catalogue | None = None
        self._stalls: asyncio.Task[None] | None = None
        self._draining = False
        self._closed = False
        self._admitted = 0
        self._drivers: set[Driver] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the engine; does nothing when that is done. Raises EngineError naming what is missing or wrong."""
        if self._catalogue is not None:
            return
        await self._engine.start()
        self._catalogue = Catalogue([self._engine.info.model])
        self._stalls = asyncio.create_task(sample_stalls(self.metrics.loop_stall))

    async def drain(self, seconds: float) -> None:
        """Admit nobody more and let every open turn finish, for so long; then close what is left with 1012."""
        self._draining = True
        for driver in list(self._drivers):
            driver.wind_down(_NOTICE)
        if not await self._emptied(seconds):
            for driver in list(self._drivers):
                driver.stop(CloseSession(code=1012, reason="The server is restarting."))
            await self._emptied(_FLUSH_SECONDS)

    async def close(self) -> None:
        """Release the models; does nothing when that is done. Conversations that are still open end."""
        if self._closed:
            return
        self._closed = self._draining = True
        if self._stalls is not None:
            self._stalls.cancel()
            await asyncio.gather(self._stalls, return_exceptions=True)
            self._stalls = None
        try:
            await self._engine.close()
        finally:
            await self._detectors.turns.close()

    @property
    def ready(self) -> bool:
        """Would a caller be let in, were there room?"""
        return self._catalogue is not None and not self._draining

    @property
    def active(self) -> int:
        """Conversations that hold a slot."""
        return self._admitted

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models on offer, best first."""
        return self._catalogue.models if self._catalogue else ()

    # --- conversations -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def admit(self, model: str | None) -> AsyncIterator[Call]:
        """A slot for a conversation with `model`, held inside the context.

        Raises Refused: 404 for an unknown model, 429 when all slots are taken, 503 when the server or the engine
        cannot take anyone.
        """
        if self._catalogue is None or self._draining:
            raise Refused(503, "not_ready", "The server is starting or stopping; try again.", retry_after=10)
        try:
            resolved = self._catalogue.resolve(model)
        except UnknownModelError as error:
            raise Refused(404, error.code, error.message) from None
        if self._admitted >= self._max_sessions:
            raise Refused(429, "too_many_sessions", "All lines are taken; try again.", retry_after=5)
        self._admitted += 1
        self._empty.clear()
        self.metrics.sessions.inc()
        try:
            session_id = f"sess_{secrets.token_hex(12)}"
            engine = await self._open(session_id)
            try:
                yield Call(session_id=session_id, model=resolved, engine=engine)
            finally:
                await self._release(engine)
        finally:
            self.metrics.sessions.dec()
            self._admitted -= 1
            if not self._admitted:
                self._empty.set()

    async def converse(
        self, call: Call, connection: Connection, *, extensions: bool = False, lead: int | None = None
    ) -> CloseSession | None:
        """Run `call` until it is over; returns how to close the connection, None when the client has gone.

        `extensions` and `lead` (ns) are what the client can do: see `SessionOptions`.
        """
        began = self._clock()
        session = self._new_session(
            session_id=call.session_id,
            model=call.model,
            engine=self._engine.info,
            extensions=extensions,
            lead=lead,
            now=began,
        )
        driver = Driver(
            session=session,
            connection=connection,
            models=Models(engine=call.engine, voice=self._detectors.voice.open(), turns=self._detectors.turns),
            metrics=self.metrics,
            clock=self._clock,
            first_event=self._first_event,
        )
        self._drivers.add(driver)
        try:
            close = await driver.run()
        except Exception:
            _log.exception("conversation failed", extra={"fields": {"session": call.session_id}})
            close = CloseSession(code=1011, reason="Internal error.")
        finally:
            self._drivers.discard(driver)
        seconds = (self._clock() - began) / 1e9
        code = close.code if close else 1000
        self.metrics.session_length.observe(seconds)
        self.metrics.closed.labels(str(code)).inc()
        fields = {"session": call.session_id, "code": code, "seconds": round(seconds, 1)}
        _log.info("conversation over", extra={"fields": fields})
        return close

    async def _open(self, session_id: str) -> EngineSession:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._engine.open(session_id)
        except EngineBusyError as error:
            raise Refused(503, error.code, error.message, retry_after=error.retry_after) from None
        except EngineError as error:
            self.metrics.engine_errors.labels(error.code).inc()
            raise Refused(503, error.code, error.message, retry_after=10) from None
        except TimeoutError:
            self.metrics.engine_errors.labels("open_timeout").inc()
            raise Refused(503, "engine_busy", "The engine does not answer; try again.", retry_after=10) from None

    async def _release(self, engine: EngineSession) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await engine.close()
        except Exception:
            _log.exception("engine did not release a conversation")
            self.metrics.engine_errors.labels("release").inc()

    async def _emptied(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
