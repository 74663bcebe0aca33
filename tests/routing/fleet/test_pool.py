from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from routing.fleet.pool import EnginePool
from streaming.errors import EngineChangedError, EngineError
from tests.routing.fleet.fake_engine import FakeEngine, Place, info

A, B = "ws://a:1", "ws://b:1"


class World:
    def __init__(self) -> None:
        self.now = 0
        self.places = {A: Place(), B: Place()}
        self.pool = EnginePool(lambda address: self.places[address].build(), clock=lambda: self.now)

    @property
    def all_engines(self) -> list[FakeEngine]:
        return [engine for place in self.places.values() for engine in place.engines]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.pool.close()
    assert [engine.closes for engine in world.all_engines] == [1] * len(world.all_engines)  # each once, none left


async def test_an_engine_is_started_once_however_many_open_at_once(world: World) -> None:
    world.places[A].hold.clear()
    opens = [asyncio.create_task(world.pool.open(A, f"s{n}")) for n in range(5)]
    await asyncio.sleep(0)
    world.places[A].hold.set()
    await asyncio.gather(*opens)
    (engine,) = world.places[A].engines
    assert (engine.starts, len(engine.sessions)) == (1, 5)
    assert world.pool.info(A) == info()


async def test_one_that_loads_holds_up_no_other(world: World) -> None:
    world.places[A].hold.clear()
    waiting = asyncio.create_task(world.pool.open(A, "s"))
    await world.pool.open(B, "s")
    assert not waiting.done()
    world.places[A].hold.set()
    await waiting


async def test_a_caller_that_waits_no_longer_does_not_stop_the_start(world: World) -> None:
    world.places[A].hold.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.pool.open(A, "s")
    world.places[A].hold.set()
    await world.pool.open(A, "s")
    assert len(world.places[A].engines) == 1


async def test_before_the_start_nobody_knows_what_it_is(world: World) -> None:
    with pytest.raises(EngineError):
        world.pool.info(A)
    world.places[A].model = None
    with pytest.raises(EngineError, match="nobody is there"):
        await world.pool.start(A)
    with pytest.raises(EngineError):
        world.pool.info(A)


async def test_a_failed_start_is_tried_again_after_a_backoff_that_grows(world: World) -> None:
    place = world.places[A]
    place.model = None
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        for _ in range(3):
            with pytest.raises(EngineError, match="nobody is there"):
                await world.pool.open(A, "s")
        tried = len(place.engines)
        world.now += seconds * 10**9 - 1
        with pytest.raises(EngineError, match="nobody is there"):
            await world.pool.open(A, "s")
        assert len(place.engines) == tried
        world.now += 1
    assert tried == 7
    place.model = "m"
    await world.pool.open(A, "s")
    assert world.pool.info(A) == info()


async def test_after_a_start_that_went_well_the_backoff_begins_anew(world: World) -> None:
    place = world.places[A]
    for model in (None, "m", None):
        place.model = model
        world.now += 10**9
        if model is None:
            with pytest.raises(EngineError):
                await world.pool.start(A)
        else:
            await world.pool.start(A)
            await world.pool.drop(A)
    place.model = "m"
    world.now += 10**9
    await world.pool.start(A)


async def test_a_defect_in_a_start_is_told_as_an_error_of_the_engine(world: World) -> None:
    world.places[A].fault = RuntimeError("secret")
    with pytest.raises(EngineError, match=r"^the engine cannot be started$"):
        await world.pool.open(A, "s")


async def test_a_worker_that_came_back_with_another_model_is_asked_anew_what_it_is(world: World) -> None:
    await world.pool.open(A, "s")
    world.places[A].model = "new"
    await world.pool.open(A, "s", model="new")
    old, new = world.places[A].engines
    assert (old.closes, new.closes, len(new.sessions)) == (1, 0, 1)
    assert world.pool.info(A) == info("new")


async def test_a_conversation_gets_the_model_that_was_chosen_or_none(world: World) -> None:
    await world.pool.open(A, "s", model="m")
    with pytest.raises(EngineChangedError, match="has m now, not other"):
        await world.pool.open(A, "s", model="other")
    (engine,) = world.places[A].engines
    assert [session.closed for session in engine.sessions] == [False, True]


async def test_opens_at_once_on_a_changed_worker_start_it_anew_once(world: World) -> None:
    await world.pool.open(A, "s")
    world.places[A].model = "new"
    await asyncio.gather(*(world.pool.open(A, f"s{n}", model="new") for n in range(4)))
    assert len(world.places[A].engines) == 2


async def test_dropping_ends_a_start_that_others_wait_for(world: World) -> None:
    world.places[A].hold.clear()
    waiting = asyncio.create_task(world.pool.open(A, "s"))
    await asyncio.sleep(0)
    await world.pool.drop(A)
    with pytest.raises(EngineError, match="no longer wanted"):
        await waiting


async def test_a_closed_pool_starts_nothing(world: World) -> None:
    await world.pool.open(A, "s")
    await world.pool.close()
    with pytest.raises(EngineError, match="stopping"):
        await world.pool.open(A, "s")
    assert len(world.all_engines) == 1


async def test_a_check_asks_a_started_engine_whether_it_is_there(world: World) -> None:
    await world.pool.check(A)
    world.places[A].model = None
    with pytest.raises(EngineError, match="nobody is there"):
        await world.pool.check(A)
    world.places[A].model = "m"
    await world.pool.check(A)
    (engine,) = world.places[A].engines
    assert engine.starts == 3
