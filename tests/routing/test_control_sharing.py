"""What gateways share of a rollout, and what each keeps for itself."""

from __future__ import annotations

import json
from dataclasses import replace

from routing.control import STATE
from routing.policy.contract import Bar, Reason
from streaming.schema import to_json
from tests.routing.fakes import FakeEngine
from tests.routing.world import NEW, OLD, FakeSource, Store, World


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


async def test_a_state_that_cannot_be_read_is_told_and_replaced() -> None:
    store = Store()
    store.states[STATE] = (json.dumps({"stage": "nonesuch"}), 7)
    world = await World(FakeEngine(OLD), store=store).begin()
    assert await world.call() == OLD
    await world.step()
    stored, revision = store.states[STATE]
    assert (json.loads(stored)["incumbent"], revision) == (OLD, 8)
    assert "the rollout's state" not in world.control.troubles.open
