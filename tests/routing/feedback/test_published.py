from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest

from routing.feedback.aggregates import LEAST
from routing.feedback.form import Feedback
from routing.feedback.published import PublishedFeedback
from routing.feedback.store import FeedbackStore, FeedbackSummary
from routing.feedback.turns import RatedTurn
from routing.storage.database import Database
from streaming.timeline import TurnLatency

DAY = date(2026, 11, 22)


async def rate(database: Database, *ratings: int, version: str = "m@1") -> None:
    turn = RatedTurn(version=version, latency=TurnLatency(total=0, parts=()))
    for rating in ratings:
        await FeedbackStore(database).add(Feedback(response_id="resp_1", rating=rating), turn, day=DAY)


def told(ratings: int, mean: float) -> Mapping[str, FeedbackSummary]:
    return {"m@1": FeedbackSummary(ratings=ratings, mean=mean)}


async def test_no_two_summaries_differ_by_fewer_ratings_than_are_told_of(database: Database) -> None:
    published = PublishedFeedback(database)
    seen = [0]
    for number in range(23):
        await rate(database, 1 + number % 5)
        found = (await published.summary()).get("m@1")
        if found is not None and found.ratings != seen[-1]:
            seen.append(found.ratings)
    assert seen == [0, 5, 10, 15, 20]
    assert LEAST == 5


async def test_nor_those_of_another_gateway_or_after_a_restart(opening: Callable[[], Database]) -> None:
    database = opening()
    await rate(database, 5, 5, 5, 5, 4)
    assert await PublishedFeedback(database).summary() == told(5, 4.8)
    await rate(database, 1)
    for _ in range(2):
        assert await PublishedFeedback(opening()).summary() == told(5, 4.8)
    await rate(database, 1, 1, 1)
    assert await PublishedFeedback(opening()).summary() == told(5, 4.8)
    await rate(database, 1)
    assert await PublishedFeedback(opening()).summary() == told(10, 2.9)


async def test_each_version_moves_by_itself(database: Database) -> None:
    published = PublishedFeedback(database)
    await rate(database, *[3] * 5)
    assert await published.summary() == told(5, 3.0)
    await rate(database, 5)
    await rate(database, *[4] * 5, version="other@1")
    assert await published.summary() == {**told(5, 3.0), "other@1": FeedbackSummary(ratings=5, mean=4.0)}


async def test_gateways_that_ask_at_once_tell_the_same(opening: Callable[[], Database]) -> None:
    databases = [opening() for _ in range(4)]
    await rate(databases[0], *[3] * 5)
    found = await asyncio.gather(*(PublishedFeedback(database).summary() for database in databases))
    assert found == [told(5, 3.0)] * 4


async def test_who_is_overtaken_tells_what_was_told(
    opening: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opening()
    await rate(database, *[3] * 5)
    late = PublishedFeedback(database)
    save = late._states.save

    async def overtaken(name: str, value: dict[str, Any], *, revision: int) -> bool:
        await rate(database, 1)
        assert await PublishedFeedback(opening()).summary() == told(6, 2.67)
        return await save(name, value, revision=revision)

    monkeypatch.setattr(late._states, "save", overtaken)
    assert await late.summary() == told(6, 2.67)
