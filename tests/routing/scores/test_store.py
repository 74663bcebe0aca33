from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping

import pytest
from sqlalchemy import text

from routing.scores import store as store_module
from routing.scores.aggregate import Standing, stand
from routing.scores.errors import TooManyScoresError
from routing.scores.queries import HistoryPoint, StoreRules
from routing.scores.series import AverageRules, Scoring
from routing.scores.standings import MinerStanding, Scoreboard
from routing.scores.store import ScoreStore
from routing.storage.database import Database
from tests.routing.scores.scoring import NOW, PROFILE, A, B, submission

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def store(database: Database) -> ScoreStore:
    return ScoreStore(database)


async def rows(database: Database, table: str) -> int:
    return await database.read(lambda session: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


async def test_nothing_scored_is_an_empty_board(store: ScoreStore) -> None:
    assert await store.scoreboard(now=NOW) == Scoreboard()
    assert await store.history(A, "total", since=0) == ()


async def test_scores_become_the_board_here_and_in_another_process(opening: Callable[[], Database]) -> None:
    here, there = ScoreStore(opening()), ScoreStore(opening())
    for hours, (validator, total) in enumerate((("5a", 0.5), ("5b", 0.6), ("5c", 0.7))):
        await here.add(submission({A: total, B: None}, wer=0.9), validator=validator, now=NOW + hours * HOUR)
    board = await there.scoreboard(now=NOW + 3 * HOUR)
    assert board == await here.scoreboard(now=NOW + 3 * HOUR)

    assert set(board.models) == {A, B}
    good, bad = board.of(A), board.of(B)
    assert good.total is not None
    assert (good.total.average, good.total.validators, good.total.samples) == (0.6, 3, 3)
    assert good.total.updated_at == NOW + 2 * HOUR
    assert good.metrics["wer"].average == 0.9
    assert good.miner == MinerStanding(emission=0.2)
    assert not good.failing
    assert bad.total is not None
    assert (bad.total.average, bad.failing, bad.failure) == (0.0, True, "no audio within 30 s")
    assert [(one.hotkey, one.submissions, one.last_run_at, one.agreement) for one in board.validators] == [
        ("5a", 1, NOW, 1.0),
        ("5b", 1, NOW + HOUR, 1.0),
        ("5c", 1, NOW + 2 * HOUR, 1.0),
    ]
    assert board.validators[0].profile == PROFILE
    assert board.validators[0].version == "0.1.0"


async def test_only_what_changed_is_averaged_anew(store: ScoreStore, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[str] = []

    def noting(scorings: Mapping[str, Iterable[Scoring]], *, now: float, rules: AverageRules) -> dict[str, Standing]:
        averaged.extend(scorings)
        return stand(scorings, now=now, rules=rules)

    monkeypatch.setattr(store_module, "stand", noting)
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW)
    first = await store.scoreboard(now=NOW)
    assert averaged == [A, B]
    assert await store.scoreboard(now=NOW + DAY) == first
    assert averaged == [A, B]
    await store.add(submission({A: 0.7}), validator="5a", now=NOW + DAY)
    board = await store.scoreboard(now=NOW + DAY)
    assert averaged == [A, B, A]
    assert board.of(A) != first.of(A)
    assert board.of(B) == first.of(B)


async def test_scores_lapse_also_where_nothing_comes_any_more(store: ScoreStore) -> None:
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW)
    await store.add(submission({A: 0.7}), validator="5b", now=NOW + 3 * DAY)
    assert set((await store.scoreboard(now=NOW + 14 * DAY)).models) == {A, B}
    later = await store.scoreboard(now=NOW + 15 * DAY)
    assert set(later.models) == {A}
    assert later.models[A].metrics["total"].average == 0.7
    assert [one.hotkey for one in later.validators] == ["5b"]
    assert await store.scoreboard(now=NOW + 30 * DAY) == Scoreboard()


async def test_one_validators_scores_lapse_while_it_scores_others(store: ScoreStore) -> None:
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW)
    await store.add(submission({A: 0.7}), validator="5b", now=NOW + 3 * DAY)
    await store.add(submission({B: 0.5}), validator="5a", now=NOW + 10 * DAY)
    for day, expected in ((10, 0.6), (15, 0.7)):
        total = (await store.scoreboard(now=NOW + day * DAY)).of(A).total
        assert total is not None
        assert total.average == pytest.approx(expected)


async def test_whose_scores_count_can_be_told_and_told_anew(store: ScoreStore) -> None:
    await store.add(submission({A: 0.5}), validator="5a", now=NOW)
    await store.add(submission({A: 0.9, B: 0.9}), validator="5b", now=NOW)
    both = await store.scoreboard(now=NOW)
    one = await store.scoreboard(now=NOW, validators={"5a", "5x"})
    assert both.models[A].metrics["total"].average == 0.7
    assert one.models[A].metrics["total"].average == 0.5
    assert set(one.models) == {A}
    assert [validator.hotkey for validator in one.validators] == ["5a"]
    assert await store.scoreboard(now=NOW, validators=()) == Scoreboard()
    assert await store.scoreboard(now=NOW) == both


async def test_profiles_are_not_mixed(store: ScoreStore) -> None:
    for hour, (validator, profile, value) in enumerate(
        (("5a", "old", 0.2), ("5a", "new", 0.8), ("5b", "new", 0.8), ("5c", "old", 0.2))
    ):
        await store.add(submission({A: value}, profile=profile), validator=validator, now=NOW + hour * HOUR)
    total = (await store.scoreboard(now=NOW + 4 * HOUR)).of(A).total
    assert total is not None
    assert (total.average, total.validators) == (0.8, 2)
    assert [point.value for point in await store.history(A, "total", since=0)] == [0.8, 0.8]
    await store.add(submission({A: 0.3}, profile="old"), validator="5a", now=NOW + 5 * HOUR)
    total = (await store.scoreboard(now=NOW + 5 * HOUR)).of(A).total
    assert total is not None
    assert total.average == pytest.approx(0.225, abs=0.01)
    assert total.samples == 3


async def test_history_is_of_one_metric_oldest_first(store: ScoreStore) -> None:
    for hour, total in enumerate((0.4, None, 0.6)):
        await store.add(submission({A: total, B: 0.1}, wer=0.9), validator="5a", now=NOW + hour * HOUR)
    await store.add(submission({A: 0.5}, block=5_000_001), validator="5b", now=NOW + 3 * HOUR)
    assert [(point.at, point.value) for point in await store.history(A, "total", since=NOW)] == [
        (NOW, 0.4),
        (NOW + HOUR, 0.0),
        (NOW + 2 * HOUR, 0.6),
        (NOW + 3 * HOUR, 0.5),
    ]
    assert await store.history(A, "total", since=NOW + 2.5 * HOUR) == (
        HistoryPoint(at=NOW + 3 * HOUR, value=0.5, validator="5b", block=5_000_001),
    )
    assert [point.value for point in await store.history(A, "wer", since=NOW)] == [0.9, 0.9]
    assert await store.history(A, "charm", since=NOW) == ()


async def test_history_is_of_those_whose_scores_count(store: ScoreStore) -> None:
    """Also where others, or other profiles, were the more once."""
    for validator in ("5x", "5y", "5z"):
        await store.add(submission({A: 0.1}, profile="old"), validator=validator, now=NOW)
    await store.add(submission({A: 0.5}), validator="5a", now=NOW + 20 * DAY)
    await store.add(submission({A: 0.9}), validator="5b", now=NOW + 20 * DAY)
    board = await store.scoreboard(now=NOW + 20 * DAY, validators={"5a"})
    assert [one.hotkey for one in board.validators] == ["5a"]
    assert [(one.value, one.validator) for one in await store.history(A, "total", since=NOW)] == [(0.5, "5a")]
    await store.scoreboard(now=NOW + 20 * DAY)
    assert [one.validator for one in await store.history(A, "total", since=NOW)] == ["5a", "5b"]


async def test_history_and_series_are_bounded(database: Database) -> None:
    store = ScoreStore(database, StoreRules(series=3, history=4))
    for hour in range(6):
        await store.add(submission({A: hour / 10}), validator="5a", now=NOW + hour * HOUR)
    assert [point.value for point in await store.history(A, "total", since=0)] == [0.2, 0.3, 0.4, 0.5]
    total = (await store.scoreboard(now=NOW + 6 * HOUR)).of(A).total
    assert total is not None
    assert total.samples == 3
    assert total.trend[0][1] == pytest.approx(0.3)


async def test_a_validator_may_send_only_so_much(database: Database) -> None:
    store = ScoreStore(database, StoreRules(submissions=3, scorings=5))
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW)
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW + 60)
    with pytest.raises(TooManyScoresError) as refused:
        await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW + 120)
    assert refused.value.retry_after == HOUR - 120
    await store.add(submission({A: 0.5}), validator="5a", now=NOW + 120)
    with pytest.raises(TooManyScoresError):
        await store.add(submission({A: 0.5}), validator="5a", now=NOW + 180)
    await store.add(submission({A: 0.5, B: 0.5}), validator="5b", now=NOW + 180)
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW + HOUR)
    board = await store.scoreboard(now=NOW + HOUR)
    assert [one.submissions for one in board.validators] == [4, 1]  # what was refused has left nothing
    assert await rows(database, "scorings") == 9


async def test_what_is_old_is_forgotten(database: Database) -> None:
    store = ScoreStore(database, StoreRules(retention=30 * DAY))
    await store.add(submission({A: 0.5, B: 0.5}), validator="5a", now=NOW)
    await store.add(submission({A: 0.6}), validator="5b", now=NOW + 20 * DAY)
    await store.add(submission({A: 0.7}), validator="5b", now=NOW + 40 * DAY)
    for table, left in (("scorings", 2), ("score_submissions", 2), ("scored_versions", 1), ("scorers", 1)):
        assert await rows(database, table) == left
    assert [point.value for point in await store.history(A, "total", since=0)] == [0.6, 0.7]


async def test_submissions_at_once_are_all_taken(opening: Callable[[], Database]) -> None:
    stores = ScoreStore(opening()), ScoreStore(opening())
    both_ways = (submission({A: 0.5, B: 0.6}), submission({B: 0.6, A: 0.5}))
    ids = await asyncio.gather(
        *(stores[n % 2].add(both_ways[n // 2 % 2], validator=f"5{n % 3}", now=NOW + n) for n in range(24))
    )
    assert len(set(ids)) == 24
    board = await stores[0].scoreboard(now=NOW + 24)
    assert [one.submissions for one in board.validators] == [8, 8, 8]
    total = board.of(A).total
    assert total is not None
    assert total.samples == 24


async def test_boards_asked_for_at_once_are_one(store: ScoreStore) -> None:
    await store.add(submission({A: 0.5}), validator="5a", now=NOW)
    boards = await asyncio.gather(*(store.scoreboard(now=NOW) for _ in range(5)))
    assert all(board == boards[0] for board in boards)
    assert dataclasses.is_dataclass(boards[0].of(A).total)


async def test_the_operator_may_say_which_profile_counts(database: Database) -> None:
    store = ScoreStore(database, StoreRules(profile="new"))
    for validator, profile, value in (("5a", "old", 0.2), ("5b", "old", 0.2), ("5c", "new", 0.8)):
        await store.add(submission({A: value}, profile=profile), validator=validator, now=NOW)
    assert [point.value for point in await store.history(A, "total", since=0)] == [0.8]
    total = (await store.scoreboard(now=NOW)).of(A).total
    assert total is not None
    assert (total.average, total.validators) == (0.8, 1)


async def test_a_validator_that_scores_anew_every_week_becomes_sure(store: ScoreStore) -> None:
    for week, value in enumerate((0.70, 0.72, 0.71, 0.69, 0.70)):
        await store.add(submission({A: value}), validator="5a", now=NOW + 7 * week * DAY)
    total = (await store.scoreboard(now=NOW + 28 * DAY)).of(A).total
    assert total is not None
    assert total.samples == 5
    assert 0.6 < total.low < total.average < total.high < 0.8
