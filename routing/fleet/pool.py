"""One started engine for each address, which all conversations that go there share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from routing.fleet.backoff import Backoff
from streaming.engine import Engine, EngineInfo, EngineSession
from streaming.errors import EngineChangedError, EngineError

_log = logging.getLogger(__name__)

_RETRY = Backoff(first=1.0, most=30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    error: EngineError
    retry_at: int  # ns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    engine: Engine
    starting: asyncio.Task[_Failure | None]  # raises nothing

    @property
    def failure(self) -> _Failure | None:
        """Why it was not started; None where it was."""
        return self.starting.result()

    @property
    def is_started(self) -> bool:
        return self.starting.done() and not self.starting.cancelled() and self.failure is None


class EnginePool:
    """Starts an engine when its address is first asked for, and once, however many ask.

    `build` makes the engine of an address, not yet started (`models.catalogue.build_engine`). `clock` gives monotonic
    ns. An engine whose start failed is built and started anew, at the next asking after a back-off; until then it is
    told by the same error.
    """

    def __init__(self, build: Callable[[str], Engine], *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._build = build
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._failures: dict[str, int] = {}  # since it was last dropped
        self._closed = False

    async def start(self, address: str) -> EngineInfo:
        """Start the engine of this address where it is not; returns what it is. Raises EngineError.

        A caller that waits no longer does not stop it.
        """
        return (await self._started(address)).engine.info

    async def check(self, address: str) -> EngineInfo:
        """As `start`; and a started engine that stands elsewhere is asked whether it is there, which its `start` is."""
        fresh = address not in self._members
        member = await self._started(address)
        if not fresh:
            await member.engine.start()
        return member.engine.info

    async def open(self, address: str, session_id: str, *, model: str | None = None) -> EngineSession:
        """A conversation on the engine of this address; where `model` is given, that is what it must be.

        A worker that came back with another engine is asked anew what it is. Raises EngineBusyError where it is full,
        EngineChangedError where it is another model, EngineError where it cannot be used.
        """
        member = await self._started(address)
        try:
            session = await member.engine.open(session_id)
        except EngineChangedError:
            if self._members.get(address) is member:
                await self.drop(address)
            member = await self._started(address)
            session = await member.engine.open(session_id)
        if model is None or member.engine.info.model == model:
            return session
        await session.close()
        raise EngineChangedError(f"the worker has {member.engine.info.model} now, not {model}")

    def info(self, address: str) -> EngineInfo:
        """What the engine of this address is. Raises EngineError where it has not been started."""
        member = self._members.get(address)
        if member is None or not member.is_started:
            raise EngineError("the engine has not been started")
        return member.engine.info

    def is_started(self, address: str) -> bool:
        """Whether the engine of this address has been started."""
        return (member := self._members.get(address)) is not None and member.is_started

    async def drop(self, address: str) -> None:
        """Forget the engine of this address; conversations that are still on it end."""
        self._failures.pop(address, None)
        if (member := self._members.pop(address, None)) is not None:
            await _close(member)

    async def close(self) -> None:
        """Close every engine, and start no more."""
        self._closed = True
        members = list(self._members.values())
        self._members.clear()
        await asyncio.gather(*map(_close, members))

    async def _started(self, address: str) -> _Member:
        if self._closed:
            raise EngineError("the server is stopping")
        member = self._members.get(address)
        if member is None or self._is_due(member):
            member = self._start(address)
        await asyncio.wait({member.starting})
        if member.starting.cancelled():
            raise EngineError("the engine is no longer wanted")
        if member.failure is not None:
            error = member.failure.error
            raise EngineError(error.message, code=error.code, detail=error.detail)
        return member

    def _is_due(self, member: _Member) -> bool:
        if not member.starting.done() or member.starting.cancelled() or member.failure is None:
            return False
        return self._clock() >= member.failure.retry_at

    def _start(self, address: str) -> _Member:
        engine = self._build(address)
        member = _Member(engine=engine, starting=asyncio.create_task(self._try(address, engine)))
        self._members[address] = member
        return member

    async def _try(self, address: str, engine: Engine) -> _Failure | None:
        try:
            await engine.start()
        except EngineError as error:
            problem = error
        except Exception:
            _log.exception("an engine cannot be started")
            problem = EngineError("the engine cannot be started")
        else:
            return None
        await _shut(engine)
        failures = self._failures[address] = self._failures.get(address, 0) + 1
        return _Failure(error=problem, retry_at=self._clock() + _RETRY.after(failures))


async def _close(member: _Member) -> None:
    member.starting.cancel()
    await asyncio.wait({member.starting})
    if member.starting.cancelled() or member.failure is None:  # else it is closed
        await _shut(member.engine)


async def _shut(engine: Engine) -> None:
    try:
        await engine.close()
    except Exception:
        _log.exception("an engine cannot be closed")
