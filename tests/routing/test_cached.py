from __future__ import annotations

import asyncio

import pytest

from routing.cached import Cached
from streaming.errors import EngineError


class Source:
    """Counts up; a test may hold it back, or make it fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.time = 0.0

    async def compute(self) -> int:
        self.count += 1
        computed = self.count
        await self.gate.wait()
        if self.fails:
            raise EngineError("the source is down")
        return computed

    def cached(self) -> Cached[int]:
        return Cached(self.compute, first=0, seconds=10, what="numbers", clock=lambda: self.time)


async def test_it_is_computed_once_while_it_is_fresh() -> None:
    source = Source()
    cached = source.cached()
    assert [await cached.get() for _ in range(3)] == [1, 1, 1]
    source.time = 9.9
    assert await cached.get() == 1
    source.time = 10.0
    assert await cached.get() == 2


async def test_those_who_ask_together_wait_for_one_computation() -> None:
    source = Source()
    source.gate.clear()
    cached = source.cached()
    asking = [asyncio.create_task(cached.get()) for _ in range(5)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_a_change_computes_it_anew() -> None:
    source = Source()
    cached = source.cached()
    await cached.get()
    cached.expire()
    assert await cached.get() == 2


async def test_a_change_while_it_is_computed_computes_it_once_more() -> None:
    source = Source()
    source.gate.clear()
    cached = source.cached()
    asking = asyncio.create_task(cached.get())
    await asyncio.sleep(0)
    cached.expire()
    source.gate.set()
    assert await asking == 1
    assert await cached.get() == 2
    assert await cached.get() == 2


async def test_what_cannot_be_had_leaves_what_was_there(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.fails = True
    cached = source.cached()
    assert await cached.get() == 0
    assert await cached.get() == 0
    assert source.count == 1  # not asked again before it is due
    assert caplog.messages == ["cannot refresh numbers: the source is down"]
    source.fails = False
    source.time = 10.0
    assert await cached.get() == 2
    source.fails = True
    source.time = 20.0
    assert await cached.get() == 2


async def test_one_who_gives_up_waiting_leaves_the_others_theirs() -> None:
    source = Source()
    source.gate.clear()
    cached = source.cached()
    first, second = asyncio.create_task(cached.get()), asyncio.create_task(cached.get())
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    assert await second == 2
