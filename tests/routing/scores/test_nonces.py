from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from routing.scores import nonces as module
from routing.scores.errors import TooManyScoresError
from routing.scores.intake import ALLOWED_SKEW, MAX_AGE
from routing.scores.nonces import KEPT_SECONDS, NonceStore
from routing.storage.database import Database, open_database
from tests.routing.scores.scoring import NOW

NONCE = round(NOW * 1e9)


def test_a_nonce_is_kept_for_longer_than_its_request_is_fresh() -> None:
    assert MAX_AGE + ALLOWED_SKEW < KEPT_SECONDS


async def test_a_nonce_is_used_once_by_each_also_after_a_restart(opening: Callable[[], Database]) -> None:
    database = opening()
    nonces = NonceStore(database)
    assert await nonces.use("5a", NONCE, now=NOW)
    assert not await nonces.use("5a", NONCE, now=NOW + 10)
    assert await nonces.use("5b", NONCE, now=NOW)
    assert await nonces.use("5a", NONCE + 1, now=NOW)
    database.close()
    restarted = NonceStore(opening())
    assert not await restarted.use("5a", NONCE, now=NOW + 10)
    assert await restarted.use("5a", NONCE + 2, now=NOW + 10)


async def test_of_two_processes_at_once_one_uses_it(opening: Callable[[], Database]) -> None:
    stores = [NonceStore(opening()) for _ in range(2)]
    used = await asyncio.gather(*(stores[n % 2].use("5a", NONCE, now=NOW) for n in range(10)))
    assert sorted(used) == [False] * 9 + [True]


async def test_nonces_that_are_refused_for_their_age_are_forgotten(database: Database) -> None:
    nonces = NonceStore(database)
    for seconds in range(0, 6000, 100):
        assert await nonces.use("5a", NONCE + seconds * 10**9, now=NOW + seconds)
    count = await database.read(lambda session: session.execute(text("SELECT count(*) FROM score_nonces")).scalar_one())
    assert count == KEPT_SECONDS / 100 + 1


async def test_a_gateway_whose_clock_is_ahead_forgets_nothing_that_another_would_take(database: Database) -> None:
    nonces = NonceStore(database)
    assert await nonces.use("5a", NONCE, now=NOW)
    assert await nonces.use("5b", NONCE + 300 * 10**9, now=NOW + 300)
    assert not await nonces.use("5a", NONCE, now=NOW + 5)


async def test_what_another_process_forgets_is_not_waited_for(postgres_url: str) -> None:
    database = open_database(postgres_url, timeout=60)
    other = create_engine(postgres_url)
    try:
        nonces = NonceStore(database)
        assert await nonces.use("5a", NONCE, now=NOW)
        with other.begin() as connection:
            connection.execute(text("DELETE FROM score_nonces"))
            assert await nonces.use("5b", NONCE + 10**12, now=NOW + 1000)
    finally:
        other.dispose()
        database.close()


async def test_one_hotkey_may_use_only_so_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    nonces = NonceStore(database)
    for number in range(3):
        assert await nonces.use("5a", NONCE + number, now=NOW)
    for _ in range(2):
        with pytest.raises(TooManyScoresError) as refused:
            await nonces.use("5a", NONCE + 3, now=NOW + 100)
        assert refused.value.retry_after == pytest.approx(KEPT_SECONDS - 100)
    assert await nonces.use("5b", NONCE + 3, now=NOW + 100)
    assert await nonces.use("5a", NONCE + 3, now=NOW + KEPT_SECONDS + 1)
