from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from routing.storage.database import Database
from routing.storage.state import StateStore


async def test_what_is_saved_is_loaded_also_by_another_process(opening: Callable[[], Database]) -> None:
    here, there = StateStore(opening()), StateStore(opening())
    assert await here.load("rollout") is None
    assert await here.save("rollout", {"stage": "canary", "barred": [["a/b@c", 1.5]], "nobody": None}, revision=0)
    assert await there.load("rollout") == ({"stage": "canary", "barred": [["a/b@c", 1.5]], "nobody": None}, 1)
    assert await there.save("rollout", {"stage": "settled"}, revision=1)
    assert await here.load("rollout") == ({"stage": "settled"}, 2)
    assert await here.load("another") is None


async def test_only_the_first_of_two_writers_swaps(opening: Callable[[], Database]) -> None:
    here, there = StateStore(opening()), StateStore(opening())
    assert sorted(await asyncio.gather(*(s.save("a", {"by": n}, revision=0) for n, s in enumerate((here, there))))) == [
        False,
        True,
    ]
    first = await here.load("a")
    assert first is not None
    assert first[1] == 1
    assert await here.save("a", {"by": "here"}, revision=1)
    assert not await there.save("a", {"by": "there"}, revision=1)
    assert not await there.save("a", {"by": "there"}, revision=0)
    assert not await there.save("a", {"by": "there"}, revision=7)
    assert await there.load("a") == ({"by": "here"}, 2)


async def test_of_many_counters_none_is_lost(opening: Callable[[], Database]) -> None:
    stores = [StateStore(opening()) for _ in range(2)]
    assert await stores[0].save("count", {"n": 0}, revision=0)

    async def count(store: StateStore) -> None:
        for _ in range(5):
            while True:
                loaded = await store.load("count")
                assert loaded is not None
                if await store.save("count", {"n": loaded[0]["n"] + 1}, revision=loaded[1]):
                    break

    await asyncio.gather(*(count(store) for store in stores for _ in range(2)))
    assert await stores[1].load("count") == ({"n": 20}, 21)


@pytest.mark.parametrize("value", [{"n": float("nan")}, {"n": float("inf")}])
async def test_what_json_cannot_hold_is_refused(database: Database, value: dict[str, float]) -> None:
    store = StateStore(database)
    with pytest.raises(ValueError, match="JSON"):
        await store.save("a", value, revision=0)
    assert await store.load("a") is None
