from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from routing.feedback.aggregates import LEAST
from routing.feedback.form import LONGEST_COMMENT, Feedback
from routing.feedback.store import FeedbackStore, FeedbackSummary
from routing.feedback.turns import RatedTurn
from routing.storage.database import Database, open_database
from streaming.errors import EngineError, PeerError
from streaming.timeline import Part, TurnLatency

DAY = date(2026, 11, 22)
MS = 1_000_000


def turn(version: str = "m@1", *, total: float = 412.3) -> RatedTurn:
    parts: tuple[tuple[Part, int], ...] = (("endpointing", round(203.7 * MS)), ("think", round((total - 203.7) * MS)))
    return RatedTurn(version=version, latency=TurnLatency(total=round(total * MS), parts=parts))


def rated(rating: int = 4, *, comment: str | None = None) -> Feedback:
    return Feedback(response_id="resp_5ecret_1", rating=rating, tags=("slow", "wrong"), comment=comment)


async def test_a_rating_is_kept(database: Database) -> None:
    store = FeedbackStore(database)
    await store.add(rated(comment="naïve 👩‍🚀"), turn(), day=DAY)
    (row,) = await store.since(DAY)
    assert (row.version, row.rating, row.tags, row.comment) == ("m@1", 4, ("slow", "wrong"), "naïve 👩‍🚀")
    assert row.total_ms == 410


async def test_what_is_kept_is_this_and_no_more(database: Database) -> None:
    """A column more is a decision: could it tell whose rating this is?"""
    columns = await database.read(lambda session: inspect(session.connection()).get_columns("feedback"))
    assert {column["name"] for column in columns} == {
        "id",
        "day",
        "version",
        "rating",
        "tags",
        "comment",
        "total_ms",
        "parts_ms",
    }


async def test_a_row_has_nothing_of_the_response_and_no_time_but_the_day(database: Database) -> None:
    store = FeedbackStore(database)
    await store.add(rated(), turn(total=412.345), day=DAY)
    (row,) = await database.read(lambda session: session.execute(text("SELECT * FROM feedback")).all())
    shown = repr(tuple(row)[1:])  # an id is random, and may well hold these digits
    assert "5ecret" not in shown
    assert str(row.day) == "2026-11-22"
    assert "412" not in shown  # measured to the tenth of a ms, a wait would name its turn
    assert "203" not in shown
    assert "200" in str(row.parts_ms)
    assert "210" in str(row.parts_ms)


async def test_ids_are_random_and_rows_lie_in_their_order(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/muse.db")
    try:
        store = FeedbackStore(database)
        for number in range(40):
            await store.add(rated(comment=f"comment {number:02}"), turn(), day=DAY)
        rows = await database.read(lambda session: session.execute(text("SELECT id, comment FROM feedback")).all())
        assert [id_ for id_, _ in rows] == sorted(id_ for id_, _ in rows)
        assert [comment for _, comment in rows] != sorted(comment for _, comment in rows)
    finally:
        database.close()
    with sqlite3.connect(tmp_path / "muse.db") as file, pytest.raises(sqlite3.OperationalError, match="rowid"):
        file.execute("SELECT rowid FROM feedback")  # SQLite's own count of arrivals
    file.close()


async def test_ratings_are_not_read_in_the_order_in_which_they_came(database: Database) -> None:
    store = FeedbackStore(database)
    came = [f"comment {number:02}" for number in range(20)]
    for comment in came:
        await store.add(rated(comment=comment), turn(), day=DAY)
    read = [row.comment for row in await store.since(DAY)]
    assert sorted(comment for comment in read if comment) == came
    assert read != came


async def test_the_longest_comment_fits(database: Database) -> None:
    store = FeedbackStore(database)
    longest = "👩" * LONGEST_COMMENT
    await store.add(rated(comment=longest), turn(), day=DAY)
    assert (await store.since(DAY))[0].comment == longest


async def test_a_version_has_so_many_ratings_a_day(database: Database) -> None:
    store = FeedbackStore(database, most_a_day=2)
    for _ in range(2):
        await store.add(rated(), turn(), day=DAY)
    with pytest.raises(PeerError) as raised:
        await store.add(rated(), turn(), day=DAY)
    assert raised.value.code == "too_many_ratings"
    await store.add(rated(), turn("other@1"), day=DAY)
    await store.add(rated(), turn(), day=DAY + timedelta(days=1))
    assert len(await store.since(DAY)) == 4


async def test_since_a_day(database: Database) -> None:
    store = FeedbackStore(database)
    for days in range(5):
        await store.add(rated(1 + days), turn(), day=DAY + timedelta(days=days))
    assert sorted(row.rating for row in await store.since(DAY + timedelta(days=3))) == [4, 5]
    assert await store.since(DAY + timedelta(days=5)) == ()


async def test_the_summary_is_of_versions_with_ratings_enough(database: Database) -> None:
    store = FeedbackStore(database)
    assert await store.summary() == {}
    for number in range(LEAST):
        await store.add(rated(5 if number else 4), turn(), day=DAY)
        await store.add(rated(1), turn("other@1"), day=DAY)
    for _ in range(LEAST - 1):
        await store.add(rated(2), turn("few@1"), day=DAY)
    assert await store.summary() == {
        "m@1": FeedbackSummary(ratings=LEAST, mean=4.8),
        "other@1": FeedbackSummary(ratings=LEAST, mean=1.0),
    }


async def test_ratings_outlive_the_process(opening: Callable[[], Database]) -> None:
    first = opening()
    await FeedbackStore(first).add(rated(), turn(), day=DAY)
    first.close()
    assert len(await FeedbackStore(opening()).since(DAY)) == 1


async def test_a_database_that_is_down_says_so_without_the_comment(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.close()
    with pytest.raises(EngineError) as raised:
        await FeedbackStore(database).add(rated(comment="my secret"), turn(), day=DAY)
    assert "secret" not in str(raised.value)
    assert "secret" not in caplog.text


async def test_what_a_database_refuses_is_told_without_the_comment(database: Database) -> None:
    comment = "".join(("my", " ", "secret"))  # not as it stands in this line of a traceback
    with pytest.raises(EngineError) as raised:
        await FeedbackStore(database).add(rated(9, comment=comment), turn(), day=DAY)
    assert raised.value.code == "database_refused"
    assert comment not in "".join(traceback.format_exception(raised.value))


async def test_errors_of_the_database_do_not_repeat_what_was_to_be_kept(database: Database) -> None:
    with pytest.raises((DBAPIError, EngineError)) as raised:
        await database.run(lambda session: session.execute(text("SELECT :comment FROM nowhere"), {"comment": "hush"}))
    assert "hush" not in str(raised.value)
