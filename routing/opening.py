"""A gateway's routing, as its settings have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from routing.control import Control
from routing.fleet.opening import open_fleet
from routing.fleet.pool import EnginePool
from routing.router import Router
from routing.scores.intake import Intake, admitted
from routing.scores.nonces import NonceStore
from routing.scores.queries import StoreRules
from routing.scores.store import ScoreStore
from routing.settings import RoutingSettings
from routing.sources import open_source
from routing.storage.database import Database, open_database
from routing.storage.state import StateStore
from streaming.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """All that decides which model answers. The router is started before the control, and closed after it."""

    router: Router
    control: Control
    scores: ScoreStore
    intake: Intake
    database: Database

    async def close(self) -> None:
        """Stop deciding, and close the database; the router is its gateway's to close."""
        await self.control.close()
        await asyncio.to_thread(self.database.close)


async def open_routing(
    settings: RoutingSettings,
    *,
    engines: Sequence[str],
    engine_key: str,
    build: Callable[[str], Engine],
    on_error: Callable[[str], None],
    clock: Callable[[], int] = time.monotonic_ns,
    now: Callable[[], float] = time.time,
) -> Routing:
    """Nothing of it runs yet. `engines`: the static fleet's addresses; `build` makes the engine of one.

    Raises EngineError where the database cannot be opened, or a setting is wrong.
    """
    source = open_source(settings)
    pool = EnginePool(build, clock=clock)
    fleet = open_fleet(settings, engines, pool, key=engine_key, clock=clock)
    database = await asyncio.to_thread(open_database, settings.database.get_secret_value())
    scores = ScoreStore(database, StoreRules.of(settings))
    router = Router(fleet=fleet, pool=pool, rules=settings.rules(), clock=clock, now=now, on_error=on_error)
    control = Control(
        router,
        source=source,
        scores=scores,
        states=StateStore(database),
        heard=lambda snapshot: admitted(settings, snapshot),
        most_workers=settings.most_workers,
        interval=settings.control_seconds,
        now=now,
    )
    intake = Intake(settings, scores, NonceStore(database), lambda: control.leaderboard.snapshot)
    return Routing(router=router, control=control, scores=scores, intake=intake, database=database)
