"""One worker that is kept: launched, watched, started anew when it breaks, and let go when nobody talks on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from routing.fleet.backoff import Backoff
from routing.fleet.contract import Deployment, Worker
from routing.fleet.launcher import Exit, Launcher, Running
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober, Sighting
from routing.fleet.watch import Pace, Watch
from streaming.audio import NS
from streaming.errors import EngineError

_log = logging.getLogger(__name__)

_ANSWERS = ("ready", "overloaded", "draining")


class KeptWorker:
    """Keeps one worker of a deployment from `run` on. `clock` gives monotonic ns."""

    def __init__(
        self,
        worker_id: str,
        deployment: Deployment,
        launcher: Launcher,
        *,
        prober: Prober,
        pool: EnginePool,
        clock: Callable[[], int],
        pace: Pace,
    ) -> None:
        self.deployment = deployment
        self.worker = Worker(id=worker_id, address="", key=deployment.key, state="starting", since=clock())
        self._launcher = launcher
        self._prober = prober
        self._pool = pool
        self._clock = clock
        self._pace = pace
        self._released_at: int | None = None
        self._answered_at = 0
        self._watch: Watch | None = None  # while it serves
        self._over: asyncio.Future[Exit | None] | None = None

    @property
    def released(self) -> bool:
        """Whether it is no longer wanted."""
        return self._released_at is not None

    @property
    def serving(self) -> bool:
        """Whether it has loaded and may hold conversations, now and from now on."""
        return self._over is not None and not self._over.done()

    def release(self) -> None:
        """It is no longer wanted: it takes nobody from now on, and goes when nobody is left."""
        if not self.released:
            self._released_at = now = self._clock()
            self.worker = replace(self.worker, state="draining", since=now)
            self.poke()

    def retain(self) -> None:
        """It is wanted after all."""
        self._released_at = None
        self.poke()

    def poke(self) -> None:
        """Look at it now."""
        if self._watch is not None:
            self._watch.poke()

    async def run(self) -> None:
        """Until it has been let go. Cancelled, it ends the worker at once."""
        failures = 0
        while True:
            began = self._clock()
            try:
                end = await self._live()
            except Exception:
                _log.exception("worker %s cannot be kept", self.worker.id)
                end = Exit(problem="it cannot be kept: see the log")
            if end is None or self.released:
                return
            failures = 1 if self._clock() - began > self._pace.sound * NS else failures + 1
            first, most = self._pace.refusal if end.refused else self._pace.crash
            pause = Backoff(first=first, most=most).after(failures)
            self._show(Sighting(state="failed" if end.refused else "lost", problem=end.problem))
            told = end.problem if end.detail is None else f"{end.problem}: {end.detail}"
            _log.warning("worker %s of %s: %s; tried again in %g s", self.worker.id, self.worker.key, told, pause / NS)
            await asyncio.sleep(pause / NS)

    # --- one life of it ------------------------------------------------------------------------------------------

    async def _live(self) -> Exit | None:
        """From its launch to its end, and how that came; None where it has been let go."""
        self._show(Sighting(state="starting", problem=self.worker.problem))
        try:
            running = await self._launch()
        except OSError as error:
            return Exit(problem="no worker can be started", detail=str(error))
        except EngineError as error:
            return Exit(problem=f"no worker can be started: {error.message}", detail=error.detail)
        patience, address, end = self._pace.stop, "", None
        try:
            ready = await self._ready(running)
            if isinstance(ready, Exit):
                end = ready
                return end
            address = ready
            self.worker = replace(self.worker, address=address)
            if (end := await self._serve(running, address)) is None:
                patience = self._pace.drain  # for who came at the last moment
            return end
        finally:
            self.worker = replace(self.worker, address="")
            problem = end.problem if end is not None else self.worker.problem
            self._show(Sighting(state="draining" if self.released else "lost", problem=problem))
            await _finish(self._let_go(running, address, patience))

    async def _launch(self) -> Running:
        launching = asyncio.ensure_future(self._launcher.launch(self.deployment))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            await _finish(self._undo(launching))
            raise

    async def _undo(self, launching: asyncio.Future[Running]) -> None:
        await asyncio.wait((launching,))
        if launching.exception() is None:
            await launching.result().stop(self._pace.stop)

    async def _let_go(self, running: Running, address: str, patience: float) -> None:
        await running.stop(patience)
        await self._pool.drop(address)

    async def _ready(self, running: Running) -> str | Exit:
        try:
            async with asyncio.timeout(self._pace.load):
                return await running.ready()
        except TimeoutError:
            return Exit(problem=f"it has not loaded its model within {self._pace.load:g} s")

    async def _serve(self, running: Running, address: str) -> Exit | None:
        """Watch it until it has gone, hangs, or has been let go."""
        self._over = over = asyncio.get_running_loop().create_future()
        self._answered_at = self._clock()
        self._watch = Watch(address, self._prober, self._see, every=self._pace.look)
        looking = asyncio.create_task(self._watch.run())
        going = asyncio.create_task(running.gone())
        try:
            await asyncio.wait((over, looking, going), return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()  # a defect
            return going.result() if going.done() else over.result()
        finally:
            self._watch = self._over = None
            looking.cancel()
            going.cancel()
            await asyncio.gather(looking, going, return_exceptions=True)

    # --- what is seen of it --------------------------------------------------------------------------------------

    def _see(self, seen: Sighting) -> None:
        now = self._clock()
        if seen.state in _ANSWERS:
            self._answered_at = now
        elif now - self._answered_at > self._pace.hung * NS:
            self._end(Exit(problem=seen.problem or "it does not answer"))
        if self._released_at is not None:
            idle = seen.free == seen.slots and seen.state in _ANSWERS
            if idle and now - self._released_at >= self._pace.settle * NS:
                self._end(None)
            seen = replace(seen, state="draining")
        elif seen.state not in _ANSWERS:
            seen = replace(seen, state="lost")  # one whose model has failed goes by itself
        self._show(seen)

    def _end(self, how: Exit | None) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(how)

    def _show(self, seen: Sighting) -> None:
        self.worker = seen.of(self.worker, self._clock())


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end, even where it is cancelled meanwhile, and be it again and again."""
    task = asyncio.create_task(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
