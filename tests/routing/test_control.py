from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from routing import control as module
from routing.control import STATE, Control
from routing.leaderboard import Entry, Snapshot, SourceState
from routing.policy.contract import Bar, Reason, Rules, SessionNeeds
from routing.router import Router
from routing.scores.standings import Scoreboard
from streaming.errors import EngineError
from streaming.schema import to_json
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine, FakeFleet, router_for

RULES = Rules(dwell=60, min_samples=0, shadow_turns=0, canary_steps=(0.5,), canary_turns=20, least_turns=5)
OLD, NEW = "acme/old@" + "0" * 40, "acme/new@" + "1" * 40


def snapshot(*keys: str, taken_at: float) -> Snapshot:
    """Miners' models, best first."""
    entries = tuple(
        Entry(
            uid=uid,
            hotkey=f"5Hotkey{uid}",
            model=key.partition("@")[0],
            commit=key.partition("@")[2],
            block=uid,
            competition=None,
            incentive=1 / (uid + 2),
        )
        for uid, key in enumerate(keys)
    )
    return Snapshot(
        source="chain", network="test", netuid=1, competition=None, block=1, taken_at=taken_at, entries=entries
    )


class FakeSource:
    """A chain that can be out, and one that hangs."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.out = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False
        self._state = SourceState(snapshot=None, age=None, stale=True, problem=None)

    async def refresh(self, *, now: float) -> SourceState:
        await self.gate.wait()
        if self.out:
            known = self._state.snapshot
            age = now - known.taken_at if known else None
            self._state = replace(
                self._state,
                age=age,
                stale=age is None or age > 1800,
                problem="the chain does not answer",
                failures=self._state.failures + 1,
            )
        else:
            self._state = SourceState(snapshot=snapshot(*self.keys, taken_at=now), age=0.0, stale=False, problem=None)
        return self._state

    async def close(self) -> None:
        self.closed = True


class Store:
    """Scores and states, in memory, behind a database that can be down."""

    def __init__(self) -> None:
        self.down = False
        self.states: dict[str, tuple[str, int]] = {}

    async def scoreboard(self, *, now: float, validators: Collection[str] | None = None) -> Scoreboard:
        self._ask()
        return Scoreboard()

    async def load(self, name: str) -> tuple[dict[str, Any], int] | None:
        self._ask()
        stored = self.states.get(name)
        return None if stored is None else (json.loads(stored[0]), stored[1])

    async def save(self, name: str, value: dict[str, Any], *, revision: int) -> bool:
        self._ask()
        if self.states.get(name, ("", 0))[1] != revision:
            return False
        self.states[name] = (json.dumps(value, allow_nan=False), revision + 1)
        return True

    def _ask(self) -> None:
        if self.down:
            raise EngineError("the database does not answer", code="database_unavailable")


class World:
    """A gateway's routing in virtual time."""

    def __init__(
        self,
        *engines: FakeEngine,
        source: FakeSource | None = None,
        store: Store | None = None,
        most_workers: int = 1,
    ) -> None:
        self.time = 1_000_000.0
        self.source = source or FakeSource(*(engine.info.model for engine in engines))
        self.store = store or Store()
        self.router: Router = router_for(
            *engines, rules=RULES, clock=lambda: round(self.time * 1e9), now=lambda: self.time
        )
        assert isinstance(self.router.fleet, FakeFleet)
        self.fleet = self.router.fleet
        self.control = Control(
            self.router,
            source=self.source,
            scores=self.store,
            states=self.store,
            heard=lambda snapshot: [validator.hotkey for validator in snapshot.validators] if snapshot else [],
            most_workers=most_workers,
            interval=0.01,
            now=lambda: self.time,
        )
        self.calls = 0

    async def begin(self) -> World:
        await self.router.start()
        await self.step()
        return self

    async def step(self, seconds: float = 5.0) -> None:
        """What the loops do in so much time, a few times over."""
        self.time += seconds
        await self.control.look()
        await self.control.decide()
        await self.control.share()

    async def call(self, *, gap_ms: float = 300.0, turns: int = 1) -> str:
        """A call that is placed, answered and ended; returns who answered it."""
        self.calls += 1
        async with self.router.place(SessionNeeds(), session_id=f"sess_{self.calls}") as placement:
            for _ in range(turns):
                self.router.turn(placement, TurnLatency(total=round(gap_ms * 1e6), parts=()))
            return placement.worker.key

    async def until(self, stage: str) -> None:
        for _ in range(200):
            if self.router.rollout.stage == stage:
                return
            await self.step()
        pytest.fail(f"it stays {self.router.rollout}")


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - loops signal nothing
            await asyncio.sleep(0.005)


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


async def test_a_restart_goes_on_where_the_rollout_stood() -> None:
    store = Store()
    world = await World(FakeEngine(OLD), FakeEngine(NEW), source=FakeSource(OLD, NEW), store=store).begin()
    world.source.keys = (NEW, OLD)
    await world.until("canary")
    again = World(FakeEngine(OLD), FakeEngine(NEW), source=FakeSource(NEW, OLD), store=store)
    await again.router.start()
    await again.control.share()
    assert again.router.rollout == replace(world.router.rollout, turns_at=0)


async def test_gateways_go_by_whoever_was_first() -> None:
    store, source = Store(), FakeSource(OLD, NEW)
    one = await World(FakeEngine(OLD), FakeEngine(NEW), source=source, store=store).begin()
    two = await World(FakeEngine(OLD), FakeEngine(NEW), source=source, store=store).begin()
    settled = two.router.rollout
    one.router.rollout = replace(settled, stage="watching", candidate=NEW, since=1.0)
    two.router.rollout = replace(settled, stage="watching", candidate=NEW, since=2.0)
    await one.control.share()
    await two.control.share()
    assert two.router.rollout == one.router.rollout
    two.router.rollout = replace(settled, stage="rolled_back", since=3.0, reason=Reason(code="worse", text="slow"))
    await two.control.share()
    await one.control.share()
    assert one.router.rollout == two.router.rollout


async def test_gateways_that_count_for_themselves_do_not_set_each_other_back() -> None:
    store, source = Store(), FakeSource(OLD, NEW)
    one, two = [World(FakeEngine(OLD), FakeEngine(NEW), source=source, store=store) for _ in range(2)]
    await one.begin()
    await two.begin()
    canary = replace(one.router.rollout, stage="canary", candidate=NEW, share=0.5, since=7.0)
    one.router.rollout = canary
    await one.control.share()
    await two.control.share()
    for world, turns in ((one, 5), (two, 9)):
        told = Reason(code="heard", text=f"after {turns} turns")
        world.router.rollout = replace(canary, turns_at=turns, reason=told)
    revision = store.states[STATE][1]
    for _ in range(3):
        await one.control.share()
        await two.control.share()
    assert store.states[STATE][1] == revision
    barred = replace(canary, barred=(Bar(key="x", until=9e9, reason=Reason(code="slow", text="slow")),))
    assert await store.save(STATE, to_json(barred), revision=revision)
    await one.control.share()
    assert (one.router.rollout.barred, one.router.rollout.turns_at) == (barred.barred, 5)


async def test_at_a_step_that_another_took_turns_are_counted_from_there() -> None:
    store = Store()
    world = await World(FakeEngine(OLD), FakeEngine(NEW), store=store).begin()
    world.router.rollout = replace(world.router.rollout, stage="canary", candidate=NEW, share=0.5)
    for _ in range(40):
        await world.call()
    theirs = replace(world.router.rollout, share=0.75, turns_at=1000, since=7.0)
    assert await store.save(STATE, to_json(theirs), revision=store.states[STATE][1])
    await world.control.share()
    turns = world.router.trials()[NEW].total_turns
    assert turns > 10
    assert world.router.rollout == replace(theirs, turns_at=turns)


async def test_workers_that_were_wanted_are_kept_while_they_are_needed() -> None:
    world = await World(FakeEngine(OLD), most_workers=4).begin()
    for free, wanted in ((0, 2), (2, 2), (8, 2)):  # of 8 slots; the second has not come yet
        world.fleet.found["0"] = replace(world.fleet.found["0"], slots=8, free=free)
        await world.step()
        assert [deployment.workers for deployment in world.fleet.wanted[-1]] == [wanted]


async def test_what_another_has_barred_is_no_rollback_of_ones_own() -> None:
    store = Store()
    world = await World(FakeEngine(OLD), FakeEngine(NEW), store=store).begin()
    bar = Bar(key=NEW, until=world.time + 999, reason=Reason(code="slow", text="too slow"))
    theirs = replace(world.router.rollout, barred=(bar,))
    assert await store.save(STATE, to_json(theirs), revision=store.states[STATE][1])
    await world.control.share()
    assert world.router.rollout.barred == (bar,)
    assert world.control.rollbacks == 0


async def test_a_state_that_was_taken_away_is_kept_anew() -> None:
    store = Store()
    world = await World(FakeEngine(OLD), store=store).begin()
    store.states.clear()
    for _ in range(3):
        await world.step()
    stored, revision = store.states[STATE]
    assert (json.loads(stored)["incumbent"], revision) == (OLD, 1)


async def test_a_worker_that_one_gateway_cannot_reach_is_no_matter_of_the_others() -> None:
    store, source = Store(), FakeSource(OLD, NEW)
    one, two = [World(FakeEngine(OLD), FakeEngine(NEW), source=source, store=store) for _ in range(2)]
    await one.begin()
    await two.begin()
    one.fleet.put("0", "lost")
    revision = store.states[STATE][1]
    for _ in range(3):
        await one.step()
        await two.step()
        assert await one.call() == NEW
        assert await two.call() == OLD
    assert store.states[STATE][1] == revision
    assert (one.router.rollout.absent_since, two.router.rollout.absent_since) == (1_000_010.0, None)
    barred = replace(two.router.rollout, barred=(Bar(key="x", until=9e9, reason=Reason(code="slow", text="slow")),))
    assert await store.save(STATE, to_json(barred), revision=revision)
    await one.control.share()
    assert one.router.rollout.absent_since == 1_000_010.0
    other = replace(two.router.rollout, incumbent=NEW)
    assert await store.save(STATE, to_json(other), revision=revision + 1)
    await one.control.share()
    assert one.router.rollout.absent_since is None


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


async def test_what_another_gateway_pardons_is_tried_anew_here_too() -> None:
    store = Store()
    world = await World(FakeEngine(OLD), store=store).begin()
    pardoned = world.router.rollout
    bar = Bar(key=NEW, until=world.time + 999, reason=Reason(code="slow", text="too slow"))
    world.router.rollout = replace(pardoned, barred=(bar,))
    world.router._trials.turn(NEW, 9000.0, now=world.time)
    assert await store.save(STATE, to_json(pardoned), revision=store.states[STATE][1])
    await world.control.share()
    assert NEW not in world.router.trials()


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


async def test_a_state_that_cannot_be_read_is_told_and_replaced() -> None:
    store = Store()
    store.states[STATE] = (json.dumps({"stage": "nonesuch"}), 7)
    world = await World(FakeEngine(OLD), store=store).begin()
    assert await world.call() == OLD
    await world.step()
    stored, revision = store.states[STATE]
    assert (json.loads(stored)["incumbent"], revision) == (OLD, 8)
    assert "the rollout's state" not in world.control.troubles.open


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
    await eventually(lambda: world.control.leaderboard.snapshot is not None and STATE in world.store.states)
    monkeypatch.setattr(world.router, "ranking", lambda: 1 / 0)  # a defect
    await eventually(lambda: "deciding" in world.control.troubles.open)
    await asyncio.sleep(0.05)
    assert [record.getMessage() for record in caplog.records].count("a defect while deciding") == 1
    await world.control.close()
    assert world.source.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}
