from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from routing.fleet.contract import Worker, WorkerState
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober, Sighting
from streaming.engine import Engine
from streaming.errors import EngineError
from streaming.schema import to_json
from tests.routing.fleet.fake_engine import Place, info

PATIENCE = 60.0
"""Seconds: longer than any machine takes for a look."""

HEALTH = {"status": "ok", "engine": to_json(info()), "slots": 4, "free": 3}


@asynccontextmanager
async def peer(body: bytes, *, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """Somebody who answers every request with this body; yields ws://host:port."""

    answering: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        request = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(request)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in answering if task))


async def look(address: str, place: Place | None = None, *, key: str = "", patience: float = PATIENCE) -> Sighting:
    pool = EnginePool(lambda _: (place or Place()).build())
    prober = Prober(pool, key=key, timeout=patience)
    try:
        return await prober.look(address)
    finally:
        await prober.close()
        await pool.close()


async def test_a_worker_is_what_it_says_at_its_health() -> None:
    async with peer(json.dumps(HEALTH).encode()) as address:
        assert await look(address) == Sighting(state="ready", info=info(), slots=4, free=3)


@pytest.mark.parametrize(
    ("status", "state", "problem"),
    [
        ("overloaded", "overloaded", None),
        ("starting", "starting", None),
        ("draining", "draining", None),
        ("failed", "failed", "its model has failed"),
        ("stalled", "lost", "its model hangs"),
        ("in love", "lost", "it says that it is 'in love'"),
    ],
)
async def test_each_of_its_states_has_a_meaning(status: str, state: WorkerState, problem: str | None) -> None:
    async with peer(json.dumps(HEALTH | {"status": status}).encode()) as address:
        seen = await look(address)
    assert (seen.state, seen.problem) == (state, problem)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"[" * 60_000, b" " * 100_000, json.dumps(HEALTH | {"engine": {"model": 3}}).encode()],
)
async def test_what_is_no_worker_is_lost_and_says_why(body: bytes) -> None:
    async with peer(body) as address:
        seen = await look(address)
    assert seen.state == "lost"
    assert seen.problem is not None
    assert address.removeprefix("ws://") not in seen.problem


@pytest.mark.parametrize("count", [-1, 2**40, True, "4", None, 1.5])
async def test_counts_that_are_none_are_not_known(count: object) -> None:
    async with peer(json.dumps(HEALTH | {"slots": count, "free": count}).encode()) as address:
        seen = await look(address)
    assert (seen.state, seen.slots, seen.free) == ("ready", None, None)


async def test_an_engine_of_this_process_is_never_out_of_reach() -> None:
    def build(_: str) -> Engine:
        time.sleep(0.1)  # this process is busy for longer than a look may take
        return Place().build()

    pool = EnginePool(build)
    try:
        assert await Prober(pool, timeout=0.01).look("echo") == Sighting(state="ready", info=info())
    finally:
        await pool.close()


async def test_nobody_there_is_lost() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # nobody else can have it, and nobody listens
        seen = await look(f"ws://127.0.0.1:{nobody.getsockname()[1]}")
    assert (seen.state, seen.problem) == ("lost", "the worker cannot be reached")
    assert seen.detail


async def test_one_that_never_answers_costs_the_time_of_a_look() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # who connects is left to wait
        async with asyncio.timeout(PATIENCE):
            seen = await look(f"ws://127.0.0.1:{silent.getsockname()[1]}", patience=0.2)
    assert seen == Sighting(state="lost", problem="it does not answer")


async def test_it_is_asked_with_the_key() -> None:
    asked: list[bytes] = []
    async with peer(json.dumps(HEALTH).encode(), asked=asked) as address:
        await look(address, key="a key")
    assert b"Authorization: Bearer a key\r\n" in asked[0]


async def test_an_engine_in_this_process_is_started_however_long_that_takes() -> None:
    place = Place(model="muse-embedded")
    place.hold.clear()
    pool = EnginePool(lambda _: place.build())
    assert await Prober(pool, timeout=0.05).look("embedded") == Sighting(state="starting")
    place.hold.set()
    assert await Prober(pool, timeout=PATIENCE).look("embedded") == Sighting(state="ready", info=info("muse-embedded"))
    assert len(place.engines) == 1
    await pool.close()


async def test_one_that_cannot_be_loaded_has_failed() -> None:
    seen = await look("embedded", Place(fault=EngineError("model file x was not found")))
    assert seen == Sighting(state="failed", problem="model file x was not found")


async def test_a_defect_ends_no_watch_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def build(address: str) -> Any:
        raise RuntimeError(address)

    prober = Prober(EnginePool(build))
    for _ in range(3):
        seen = await prober.look("embedded")
        assert seen == Sighting(state="lost", problem="it cannot be looked at: RuntimeError")
    [record] = caplog.records
    assert record.exc_info is not None


@pytest.mark.parametrize("address", ["moshi://host:1", "http://host:1"])
async def test_servers_that_are_no_workers_are_asked_again_whether_they_are_there(address: str) -> None:
    place = Place()
    pool = EnginePool(lambda _: place.build())
    prober, hasty = Prober(pool, timeout=PATIENCE), Prober(pool, timeout=0.05)
    assert (await prober.look(address)).state == "ready"
    place.model = None
    assert await prober.look(address) == Sighting(state="lost", problem="nobody is there")
    place.hold.clear()
    assert await hasty.look(address) == Sighting(state="lost", problem="it does not answer")
    place.hold.set()
    place.model = "m"
    assert (await prober.look(address)).state == "ready"
    await pool.close()


def test_a_worker_remembers_since_when_and_what_it_was() -> None:
    worker = Worker(id="a", address="ws://a:1", key="m", state="ready", info=info(), slots=4, free=4, since=1)
    assert Sighting(state="ready", info=info(), free=3).of(worker, 9).since == 1
    lost = Sighting(state="lost", problem="gone").of(worker, 9)
    assert (lost.since, lost.info, lost.slots, lost.problem) == (9, info(), None, "gone")
