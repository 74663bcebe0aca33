"""The router, the detectors and the conversations that share them: who is let in, and how all are let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from models.catalogue import Detectors
from routing.policy.contract import SessionNeeds
from routing.router import Placement, Router
from server.blindfold import Blindfold, blindfolded
from server.driver import Connection, Driver, Models, SessionCore
from server.errors import Refused
from server.metrics import Metrics
from server.shadow import Shadow, Tee
from server.stalls import sample_stalls
from streaming.engine import EngineInfo
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.observations import CloseSession, Observation, TurnMeasured

_log = logging.getLogger(__name__)

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
        metadata: Mapping[str, str] | None = None,
        now: int,
    ) -> SessionCore:
        """A new session; `now` is monotonic ns. `lead`: see `SessionOptions`; None leaves it to the operator.

        `metadata` is what `session.created` tells of the session.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One conversation that has been let in.

    `key`: the version of the model that answers it. `info`: the engine as the client is told of it. `blind`: the label
    that it is told instead of the model, None where it may know.
    """

    session_id: str
    key: str
    info: EngineInfo
    placement: Placement
    blind: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


OnTurn = Callable[[Call, TurnMeasured], None]
"""Told of each reply's first frame, in the conversation's way: it must not wait."""


class Gateway:
    """Admits conversations to the models that the router finds, and runs them.

    `first_event` is how many seconds a client may take to send anything; `clock` gives monotonic ns.
    """

    def __init__(
        self,
        *,
        router: Router,
        detectors: Detectors,
        new_session: SessionFactory,
        metrics: Metrics,
        max_sessions: int,
        first_event: float = 30.0,
        on_turn: Sequence[OnTurn] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.metrics = metrics
        self.router = router
        self._detectors = detectors
        self._new_session = new_session
        self._max_sessions = max_sessions
        self._first_event = first_event
        self._on_turn = tuple(on_turn)
        self._clock = clock
        self._unheard = Metrics()  # what shadows measure is no caller's
        self._shadows: set[asyncio.Task[None]] = set()
        self._stalls: asyncio.Task[None] | None = None
        self._started = False
        self._draining = False
        self._closed = False
        self._admitted = 0
        self._drivers: set[Driver] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Have the workers watched; does nothing when that is done. Raises EngineError naming what is wrong."""
        if self._started:
            return
        await self.router.start()
        self._started = True
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
        for shadow in self._shadows:
            shadow.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        try:
            await self.router.close()
        finally:
            await self._detectors.turns.close()

    @property
    def ready(self) -> bool:
        """Would a caller be let in, were there room?"""
        return self._started and not self._draining and self.router.ready

    @property
    def active(self) -> int:
        """Conversations that hold a slot."""
        return self._admitted

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models on offer, best first."""
        return self.router.models()

    # --- conversations -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def admit(self, needs: SessionNeeds, *, blind: str | None = None) -> AsyncIterator[Call]:
        """A slot for a conversation with these needs, held inside the context.

        `blind`: the client is told this label instead of the model, and no reasons.

        Raises Refused: 404 for a model that is not known or not served, 429 when all slots are taken, 503 when the
        server or the engines cannot take anyone.
        """
        if not self._started or self._draining:
            raise Refused(503, "not_ready", "The server is starting or stopping; try again.", retry_after=10)
        if self._admitted >= self._max_sessions:
            raise Refused(429, "too_many_sessions", "All lines are taken; try again.", retry_after=5)
        self._admitted += 1
        self._empty.clear()
        self.metrics.sessions.inc()
        try:
            async with self._placed(needs, f"sess_{secrets.token_hex(12)}", blind) as call:
                yield call
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
            model=call.info.model,
            engine=call.info,
            extensions=extensions,
            lead=lead,
            metadata=call.metadata or None,
            now=began,
        )
        if call.blind is not None:
            connection = Blindfold(connection)
        if call.placement.choice.shadow is not None:
            wanted = partial(self.router.tries, call.placement.choice.shadow.key)
            connection = Tee(connection, self._let_hear(call, began), wanted=wanted)
        driver = Driver(
            session=session,
            connection=connection,
            models=self._models(call.placement),
            metrics=self.metrics,
            observe=lambda observation: self._observe(call, observation),
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
            if isinstance(connection, Tee):
                connection.shadow.stop()
        if call.blind is not None:
            close = blindfolded(close)
        self._account(call, close, began)
        return close

    @contextlib.asynccontextmanager
    async def _placed(self, needs: SessionNeeds, session_id: str, blind: str | None) -> AsyncIterator[Call]:
        async with contextlib.AsyncExitStack() as held:
            try:
                placing = self.router.place(needs, session_id=session_id, role=None if blind is None else "duel")
                placement = await held.enter_async_context(placing)
            except PeerError as error:
                raise Refused(404, error.code, error.message, param=error.param) from None
            except EngineBusyError as error:
                raise Refused(503, error.code, error.message, retry_after=error.retry_after) from None
            except EngineError as error:
                raise Refused(503, error.code, error.message, retry_after=10) from None
            info = placement.info if blind is None else replace(placement.info, model=blind, voices=())
            metadata = placement.metadata if blind is None else {}
            yield Call(
                session_id=session_id,
                key=placement.worker.key,
                info=info,
                placement=placement,
                blind=blind,
                metadata=metadata,
            )

    def _account(self, call: Call, close: CloseSession | None, began: int) -> None:
        seconds = (self._clock() - began) / 1e9
        code = close.code if close else 1000
        self.metrics.session_length.observe(seconds)
        self.metrics.closed.labels(str(code)).inc()
        fields = {"session": call.session_id, "code": code, "seconds": round(seconds, 1)}
        _log.info("conversation over", extra={"fields": fields})

    def _models(self, placement: Placement) -> Models:
        return Models(engine=placement.engine, voice=self._detectors.voice.open(), turns=self._detectors.turns)

    def _observe(self, call: Call, observation: Observation) -> None:
        self.metrics.observe(observation)
        if isinstance(observation, TurnMeasured):
            self.router.turn(call.placement, observation.latency)
            for told in self._on_turn:
                told(call, observation)

    # --- shadows -------------------------------------------------------------------------------------------------

    def _let_hear(self, call: Call, began: int) -> Shadow:
        """Have the placement's shadow hear the call, beside it."""
        shadow = Shadow()
        task = asyncio.create_task(self._run_shadow(call, shadow, began))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)
        return shadow

    async def _run_shadow(self, call: Call, shadow: Shadow, began: int) -> None:
        session_id = f"{call.session_id}s"
        try:
            async with self.router.shadow(call.placement, session_id=session_id) as silent:
                driver = Driver(
                    session=self._new_session(
                        session_id=session_id, model=silent.info.model, engine=silent.info, extensions=False, now=began
                    ),
                    connection=shadow,
                    models=self._models(silent),
                    metrics=self._unheard,
                    observe=lambda observation: self._observe_shadow(silent, observation),
                    clock=self._clock,
                    first_event=self._first_event,
                )
                await driver.run()
        except EngineError as error:
            fields = {"session": call.session_id, "reason": str(error)}
            _log.info("the shadow cannot hear the call", extra={"fields": fields})
        except Exception:
            _log.exception("shadow failed", extra={"fields": {"session": call.session_id}})
        finally:
            shadow.stop()

    def _observe_shadow(self, silent: Placement, observation: Observation) -> None:
        if isinstance(observation, TurnMeasured):
            self.router.turn(silent, observation.latency)

    async def _emptied(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
