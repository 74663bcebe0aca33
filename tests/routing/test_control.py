from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from unittest.mock import Mock

import pytest

from routing import control as module
from routing.control import STATE
from routing.policy.contract import Bar, Reason, SessionNeeds
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine
from tests.routing.world import NEW, OLD, FakeSource, World
from tests.waiting import until


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    records = [record for record in caplog.records if record.name == "routing.troubles"]
    return [(record.getMessage(), record.__dict__["fields"]["what"]) for record in records]


async def test_the_leader_of_the_leaderboard_serves() -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW)).begin()
    assert await world.call() == OLD
    assert world.router.rollout.incumbent == OLD
    (wanted,) = world.fleet.wanted
    assert [(deployment.key, deployment.hotkey) for deployment in wanted] == [(OLD, "5Hotkey0"), (NEW, "5Hotkey1")]


async def test_an_hour_without_the_chain_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW)).begin()
    world.source.out = True
    for _ in range(3600 // 5):
        await world.step()
        assert await world.call() == OLD
    state = world.control.leaderboard
    assert (state.stale, state.failures, state.age) == (True, 720, 3600.0)
    assert state.snapshot is not None
    assert world.control.troubles.open == {"the leaderboard": "the chain does not answer"}
    world.source.out = False
    await world.step()
    assert not world.control.leaderboard.stale
    assert world.control.troubles.open == {}
    assert warnings(caplog) == [("does not work", "the leaderboard")]


async def test_a_leaderboard_that_was_never_read_leaves_the_workers_to_answer() -> None:
    source = FakeSource(OLD)
    source.out = True
    world = await World(FakeEngine("my-own-model"), source=source).begin()
    assert await world.call() == "my-own-model"


async def test_a_new_leader_takes_over_step_by_step_and_no_call_is_dropped() -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW), source=FakeSource(OLD, NEW)).begin()
    world.source.keys = (NEW, OLD)
    await world.until("canary")
    answered = [await world.call(turns=2) for _ in range(60)]
    assert 10 < answered.count(NEW) < 50
    await world.until("settled")
    assert world.router.rollout.incumbent == NEW
    assert {await world.call() for _ in range(20)} == {NEW}
    assert world.control.rollbacks == 0


async def test_one_that_is_slower_is_rolled_back_even_while_database_and_chain_are_away() -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW), source=FakeSource(OLD, NEW)).begin()
    world.source.keys = (NEW, OLD)
    for _ in range(30):
        await world.call(gap_ms=300)
    await world.until("canary")
    world.source.out = world.store.down = True
    for _ in range(40):
        async with world.router.place(SessionNeeds(), session_id=f"sess_c{world.calls}") as placement:
            gap = 300 if placement.worker.key == OLD else 3000
            world.router.turn(placement, TurnLatency(total=gap * 1_000_000, parts=()))
        world.calls += 1
    await world.step()
    assert world.router.rollout.stage == "rolled_back"
    world.router.rollout = replace(world.router.rollout, absent_since=1.0)  # something else changes
    await world.control.decide()
    assert world.control.rollbacks == 1
    assert {await world.call() for _ in range(20)} == {OLD}
    shared = json.loads(world.store.states[STATE][0])
    assert shared["stage"] == "canary"
    world.store.down = False
    await world.step()
    assert json.loads(world.store.states[STATE][0])["stage"] == "rolled_back"


async def test_a_database_that_is_away_is_told_once_and_the_calls_go_on(caplog: pytest.LogCaptureFixture) -> None:
    world = await World(FakeEngine(OLD)).begin()
    with caplog.at_level(logging.INFO, "routing.troubles"):
        world.store.down = True
        for _ in range(100):
            await world.step()
            assert await world.call() == OLD
        world.store.down = False
        for _ in range(10):
            await world.step()
    whats = ("the rollout's state", "the scores")
    assert sorted(warnings(caplog)) == [(how, what) for how in ("does not work", "works again") for what in whats]


async def test_workers_that_were_wanted_are_kept_while_they_are_needed() -> None:
    world = await World(FakeEngine(OLD), most_workers=4).begin()
    for free, wanted in ((0, 2), (2, 2), (8, 2)):  # of 8 slots; the second has not come yet
        world.fleet.found["0"] = replace(world.fleet.found["0"], slots=8, free=free)
        await world.step()
        assert [deployment.workers for deployment in world.fleet.wanted[-1]] == [wanted]


async def test_what_a_version_was_punished_for_does_not_count_again() -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW)).begin()
    bar = Bar(key=OLD, until=world.time + 20, reason=Reason(code="slow", text="too slow"))
    world.router.rollout = replace(world.router.rollout, barred=(bar,))
    world.router._trials.turn(OLD, 9000.0, now=world.time)
    await world.step()
    assert world.router.trials()[OLD].turns == 1
    await world.step(60)
    assert world.router.rollout.barred == ()
    assert OLD not in world.router.trials()


async def test_workers_that_could_not_be_asked_for_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FakeEngine(OLD))
    await world.router.start()
    await world.control.look()
    with monkeypatch.context() as patch:
        patch.setattr(world.fleet, "want", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await world.control.decide()
    await world.control.decide()
    assert [deployment.key for deployment in world.fleet.wanted[-1]] == [OLD]


async def test_a_clock_that_is_set_back_does_not_stop_the_scores() -> None:
    world = await World(FakeEngine(OLD)).begin()
    world.store.down = True
    await world.step(-86400.0)
    assert "the scores" in world.control.troubles.open


async def test_calls_that_ask_for_a_model_by_name_move_no_rollout() -> None:
    world = await World(FakeEngine(OLD), FakeEngine(NEW), source=FakeSource(OLD, NEW)).begin()
    world.source.keys = (NEW, OLD)
    for _ in range(30):
        await world.call(gap_ms=300)
    await world.until("canary")
    for gap in (300.0, 9000.0):
        for _ in range(40):
            async with world.router.place(SessionNeeds(model=NEW), session_id="sess_spy") as placement:
                world.router.turn(placement, TurnLatency(total=round(gap * 1e6), parts=()))
        await world.step()
        assert world.router.rollout.stage == "canary"
    assert world.router.timings()[NEW].gap_p95 == 9000.0


async def test_a_chain_that_hangs_holds_no_decision_up() -> None:
    world = World(FakeEngine(OLD))
    world.source.gate.clear()
    await world.router.start()
    looking = asyncio.create_task(world.control.look())
    await asyncio.sleep(0)
    await world.control.decide()
    assert await world.call() == OLD
    world.source.gate.set()
    await looking
    assert world.router.ranking()[0].entry is not None


async def test_the_loops_run_until_they_are_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK_SECONDS", 0.01)
    world = World(FakeEngine(OLD))
    world.source.gate.clear()
    await world.router.start()
    await world.control.start()
    assert world.router.rollout.incumbent == OLD
    world.source.gate.set()
    await until(lambda: world.control.leaderboard.snapshot is not None and STATE in world.store.states)
    broken = Mock(side_effect=ZeroDivisionError)
    monkeypatch.setattr(world.router, "ranking", broken)
    await until(lambda: broken.call_count > 5)
    assert "deciding" in world.control.troubles.open
    assert [record.getMessage() for record in caplog.records].count("a defect while deciding") == 1
    await world.control.close()
    assert world.source.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}
