from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from routing.duels.board import RatingBoard
from routing.duels.store import VoteStore
from routing.duels.votes import WINNERS, Tally, Winner
from routing.storage.database import Database
from streaming.errors import EngineError, PeerError

DAY = date(2026, 11, 22)


async def test_votes_are_counted_by_versions_and_winner(database: Database) -> None:
    store = VoteStore(database)
    assert await store.tallies() == ()
    given: list[Winner] = ["A", "A", "B", "tie", "neither", "neither", "neither"]
    for winner in given:
        await store.add("x@1", "y@1", winner, day=DAY)
    await store.add("y@1", "x@1", "A", day=DAY)
    counted = {(tally.version_a, tally.winner): tally.votes for tally in await store.tallies()}
    assert counted == {
        ("x@1", "A"): 2,
        ("x@1", "B"): 1,
        ("x@1", "tie"): 1,
        ("x@1", "neither"): 3,
        ("y@1", "A"): 1,
    }


@pytest.mark.parametrize("winner", WINNERS)
async def test_every_outcome_can_be_kept(database: Database, winner: Winner) -> None:
    store = VoteStore(database)
    await store.add("x@1", "y@1", winner, day=DAY)
    assert await store.tallies() == (Tally(version_a="x@1", version_b="y@1", winner=winner, votes=1),)


async def test_a_pair_has_so_many_votes_a_day_whichever_side_they_are_on(database: Database) -> None:
    store = VoteStore(database, most_a_day=2)
    await store.add("x@1", "y@1", "A", day=DAY)
    await store.add("y@1", "x@1", "A", day=DAY)
    with pytest.raises(PeerError) as raised:
        await store.add("x@1", "y@1", "A", day=DAY)
    assert raised.value.code == "too_many_votes"
    await store.add("x@1", "z@1", "A", day=DAY)
    await store.add("x@1", "y@1", "A", day=date(2026, 11, 23))
    assert sum(tally.votes for tally in await store.tallies()) == 4


@pytest.mark.parametrize(("version_b", "winner"), [("x@1", "A"), ("y@1", "C"), ("y@1", "")])
async def test_the_database_refuses_what_is_no_vote(database: Database, version_b: str, winner: Winner) -> None:
    with pytest.raises(IntegrityError):
        await VoteStore(database).add("x@1", version_b, winner, day=DAY)


async def test_what_is_kept_is_this_and_no_more(database: Database) -> None:
    columns = await database.read(lambda session: inspect(session.connection()).get_columns("votes"))
    assert {column["name"] for column in columns} == {"id", "day", "version_a", "version_b", "winner"}


async def test_ids_tell_no_order(database: Database) -> None:
    store = VoteStore(database)
    for number in range(40):
        await store.add(f"v{number:02}", "w", "A", day=DAY)
    rows = await database.read(lambda session: session.execute(text("SELECT id, version_a FROM votes")).all())
    by_id = [version for _, version in sorted((id_, version) for id_, version in rows)]
    assert by_id != sorted(by_id)
    assert len({len(id_) for id_, _ in rows}) == 1


# --- ratings of them


async def test_a_vote_counts_at_once(database: Database) -> None:
    store = VoteStore(database)
    board = RatingBoard(store, clock=lambda: 0.0)
    assert await board.ratings() == {}
    for _ in range(12):
        await store.add("x@1", "y@1", "A", day=DAY)
    assert await board.ratings() == {}  # not told of them
    board.changed()
    rated = await board.ratings()
    assert rated["x@1"].value > rated["y@1"].value
    assert rated["x@1"].votes == 12


async def test_votes_that_others_took_count_in_time(database: Database) -> None:
    time = 0.0
    store = VoteStore(database)
    board = RatingBoard(store, clock=lambda: time)
    await board.ratings()
    for _ in range(12):
        await store.add("x@1", "y@1", "A", day=DAY)
    time = 31.0
    assert set(await board.ratings()) == {"x@1", "y@1"}


async def test_a_database_that_is_down_takes_no_ratings_away(database: Database) -> None:
    store = VoteStore(database)
    for _ in range(12):
        await store.add("x@1", "y@1", "A", day=DAY)
    board = RatingBoard(store, clock=lambda: 0.0)
    rated = await board.ratings()
    database.close()
    board.changed()
    assert await board.ratings() == rated
    with pytest.raises(EngineError):
        await store.add("x@1", "y@1", "A", day=DAY)


async def test_without_the_library_nobody_is_rated(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = VoteStore(database)
    for _ in range(12):
        await store.add("x@1", "y@1", "A", day=DAY)

    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'statsmodels'", name="statsmodels")

    monkeypatch.setattr("routing.duels.board.ratings", missing)
    board = RatingBoard(store, clock=lambda: 0.0)
    for _ in range(2):
        board.changed()
        assert await board.ratings() == {}
    assert [message for message in caplog.messages if "statsmodels" in message] == [
        "votes are kept but nobody is rated: statsmodels is not installed"
    ]
