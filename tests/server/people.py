"""A server where people may say what they think: two models that write, real sessions, and a database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from models.catalogue import Detectors
from routing.duels.duels import Duels
from routing.router import Router
from routing.storage.database import open_database
from server.auth import AccessPolicy
from server.gateway import Gateway
from server.metrics import Metrics
from server.opinions import Opinions
from server.sessions import Sessions
from streaming.config import SessionConfig
from streaming.core import SessionOptions
from streaming.engine import Engine
from streaming.errors import EngineError
from tests.routing.fakes import router_for
from tests.server.conftest import Running, Serve
from tests.server.fakes import INFO, FakeEngine, FakeTurns, FakeVoice
from tests.waiting import PATIENCE

ALPHA, BETA = f"omega/alpha@{'a' * 40}", f"omega/beta@{'b' * 40}"
DAY = date(2026, 11, 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server and what it rests on. `http` has no key and comes from no page."""

    running: Running
    http: httpx.AsyncClient
    opinions: Opinions
    engines: tuple[FakeEngine, ...]
    router: Router
    database: Path

    async def rate(self, **feedback: object) -> httpx.Response:
        return await self.http.post("/v1/feedback", json=feedback)

    async def open_duel(self) -> dict[str, Any]:
        answer = await self.http.post("/v1/duels", json={})
        assert answer.status_code == 201, answer.text
        duel = answer.json()
        assert isinstance(duel, dict)
        return duel

    async def vote(self, duel_id: str, winner: object = "A") -> httpx.Response:
        return await self.http.post(f"/v1/duels/{duel_id}/vote", json={"winner": winner})

    def url(self, model: str) -> str:
        return f"{self.running.ws.partition('?')[0]}?model={model}"

    @contextlib.asynccontextmanager
    async def talking(self, model: str, **arguments: Any) -> AsyncIterator[ClientConnection]:
        async with connect(self.url(model), **arguments) as connection:
            yield connection

    async def turn(self, model: str, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """One written turn: `session.created`, and the response as it is done."""
        async with self.talking(model, **arguments) as connection:
            created = await until(connection, "session.created")
            await ask(connection)
            return created, (await until(connection, "response.done"))["response"]


async def ask(connection: ClientConnection) -> None:
    content = [{"type": "input_text", "text": "Who is there?"}]
    item = {"type": "message", "role": "user", "content": content}
    await connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
    response = {"output_modalities": ["text"], "metadata": {"mine": "yes"}}
    await connection.send(json.dumps({"type": "response.create", "response": response}))


async def until(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """The first event of a kind."""
    async with asyncio.timeout(PATIENCE):
        while True:
            event = json.loads(await connection.recv())
            assert isinstance(event, dict)
            if event["type"] == kind:
                return event


def models(*names: str) -> tuple[FakeEngine, ...]:
    engines = tuple(FakeEngine() for _ in names)
    for engine, name in zip(engines, names, strict=True):
        engine.info = replace(INFO, model=name, voices=(f"voice-of-{name[:11]}",))
    return engines


class Away:
    """A database that does not answer."""

    async def run(self, work: object) -> None:
        raise EngineError("the database does not answer", code="database_unavailable")


@functools.cache
def _empty_database() -> bytes:
    """Migrated once for all tests."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "muse.db"
        open_database(f"sqlite:///{file}").close()
        return file.read_bytes()


@contextlib.asynccontextmanager
async def serving(
    serve: Serve,
    directory: Path,
    *,
    engines: tuple[FakeEngine, ...] | None = None,
    access: AccessPolicy | None = None,
    url: str | None = None,
    clock: Callable[[], int] | None = None,
) -> AsyncIterator[Place]:
    """`clock` is that of ratings and duels, ns."""
    database_file = directory / "muse.db"
    if url is None:
        database_file.write_bytes(_empty_database())
    database = open_database(url or f"sqlite:///{database_file}")
    engines = models(ALPHA, BETA) if engines is None else engines
    wrapped: tuple[Engine, ...] = engines
    router = router_for(*wrapped)
    secrets = (f"S3cret{number:020}" for number in itertools.count())
    timed = {} if clock is None else {"clock": clock}
    duels = Duels(random=Random(3), new_secret=lambda: next(secrets))
    opinions = Opinions(database, duels=duels, today=lambda: DAY, **timed)
    gateway = Gateway(
        router=router,
        detectors=Detectors(voice=FakeVoice(), turns=FakeTurns()),
        new_session=Sessions(config=SessionConfig(), options=SessionOptions()),
        metrics=Metrics(),
        max_sessions=8,
        on_turn=[opinions.on_turn],
    )
    try:
        async with (
            serve(gateway, access=access, opinions=opinions) as running,
            httpx.AsyncClient(base_url=running.http) as http,
        ):
            yield Place(
                running=running, http=http, opinions=opinions, engines=engines, router=router, database=database_file
            )
    finally:
        database.close()
