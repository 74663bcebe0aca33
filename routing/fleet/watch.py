"""Looking at one address again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from routing.fleet.probe import Prober, Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds. `look`: between looks at a worker.

    Of a worker that is kept: `hung`, how long it may not answer before it is started anew; `settle`, how long one that
    is no longer wanted stays though nobody talks on it, for whoever has just been sent there; `drain`, what its last
    conversations may take at SIGTERM; `stop`, what it may take to go when the fleet is closed; `load`, what it may take
    to get ready, its weights' download and all; `crash` and `refusal`, the least and the most time from a worker that
    broke, or that cannot serve its model, to the next try; `sound`, how long it must have run for that to begin anew.
    """

    look: float = 1.0
    hung: float = 15.0
    settle: float = 10.0
    drain: float = 30.0
    stop: float = 5.0
    load: float = 3600.0
    crash: tuple[float, float] = (0.5, 60.0)
    refusal: tuple[float, float] = (15.0, 600.0)
    sound: float = 60.0


class Watch:
    """Looks at an address at once, then every `every` seconds, and whenever it is poked."""

    def __init__(self, address: str, prober: Prober, show: Callable[[Sighting], None], *, every: float) -> None:
        self._address = address
        self._prober = prober
        self._show = show
        self._every = every
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Look again now."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._poked.clear()
            self._show(await self._prober.look(self._address))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._poked.wait()
