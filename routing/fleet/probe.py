"""What stands at an address, as it says of itself."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from models.catalogue import ENGINE_NAMES, WORKER_SCHEMES
from routing.fleet.contract import Worker, WorkerState
from routing.fleet.pool import EnginePool
from streaming.engine import EngineInfo
from streaming.errors import EngineError

if TYPE_CHECKING:
    import httpx

    from models.link.health import Health

_log = logging.getLogger(__name__)

_STATES: dict[str, WorkerState] = {
    "ok": "ready",
    "overloaded": "overloaded",
    "starting": "starting",
    "draining": "draining",
    "failed": "failed",
    "stalled": "lost",
}
_PROBLEMS = {"failed": "its model has failed", "stalled": "its model hangs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was seen of a worker at one look; the fields are `Worker`'s. `detail` is for the log: see `EngineError`."""

    state: WorkerState
    info: EngineInfo | None = None
    slots: int | None = None
    free: int | None = None
    problem: str | None = None
    detail: str | None = None

    def of(self, worker: Worker, now: int) -> Worker:
        """The worker as it is with this sighting, at `now` (monotonic ns). What it is stays known while it is lost."""
        return replace(
            worker,
            state=self.state,
            info=self.info or worker.info,
            slots=self.slots,
            free=self.free,
            problem=self.problem,
            since=worker.since if worker.state == self.state else now,
        )


class Prober:
    """Looks at addresses; a look takes `timeout` seconds at most, and never waits for another's.

    A worker is asked at its `/health`, with `key`. Of anything else the pool is asked: an engine in this process is
    `starting` until it is loaded, as long as that may take, and never out of reach.
    """

    def __init__(self, pool: EnginePool, *, key: str = "", timeout: float = 2.0) -> None:
        self._pool = pool
        self._key = key
        self._timeout = timeout
        self._defects: set[str] = set()  # that the log knows of

    async def look(self, address: str) -> Sighting:
        """What is there now; raises nothing."""
        try:
            # Made before the time begins: the first one takes long on a slow machine.
            client = self._client if _is_worker(address) else None
            async with asyncio.timeout(self._timeout):
                if client is not None:
                    return _sighting(await self._ask(address, client))
                return Sighting(state="ready", info=await self._check(address))
        except TimeoutError:
            return self._unanswered(address)
        except EngineError as error:
            state: WorkerState = "failed" if address in ENGINE_NAMES else "lost"
            return Sighting(state=state, problem=error.message, detail=error.detail)
        except Exception as error:  # who looks again and again must not be ended by it
            return Sighting(state="lost", problem=self._defect(error))

    async def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            await self._client.aclose()

    def _unanswered(self, address: str) -> Sighting:
        if not _is_worker(address) and not self._pool.is_started(address):
            return Sighting(state="starting")
        if address in ENGINE_NAMES:  # it was this process that had no time
            return Sighting(state="ready", info=self._pool.info(address))
        return Sighting(state="lost", problem="it does not answer")

    def _defect(self, error: Exception) -> str:
        """What to show of it; the log has all of it, once."""
        kind = type(error).__name__
        if kind not in self._defects:
            self._defects.add(kind)
            _log.error("a defect while a worker is looked at", exc_info=error)
        return f"it cannot be looked at: {kind}"

    async def _ask(self, address: str, client: httpx.AsyncClient) -> Health:
        from models.link.health import ask_health

        return await ask_health(address, client, key=self._key)

    async def _check(self, address: str) -> EngineInfo:
        return await (self._pool.start(address) if address in ENGINE_NAMES else self._pool.check(address))

    @functools.cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(timeout=self._timeout, trust_env=False)


def _is_worker(address: str) -> bool:
    return urlsplit(address).scheme in WORKER_SCHEMES


def _sighting(health: Health) -> Sighting:
    state = _STATES.get(health.status, "lost")
    return Sighting(
        state=state,
        info=health.engine,
        slots=health.slots,
        free=health.free,
        problem=_PROBLEMS.get(health.status) or (f"it says that it is {health.status!r}" if state == "lost" else None),
    )
