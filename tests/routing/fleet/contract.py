"""What every fleet does, whatever its kind. Its tests inherit these, and bring a `ground`."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.routing.fleet.grounds import BAD, Ground, Talk, kill, until


@pytest.mark.timeout(900)
class FleetContract:
    async def test_it_tells_of_ready_workers_what_they_are_and_how_much_they_hold(self, ground: Ground) -> None:
        await ground.up("a", "b")
        for name in ("a", "b"):
            worker = await ground.one(name, "ready")
            assert worker.info is not None
            assert (worker.info.model, worker.info.duplex) == (worker.key, True)
            assert (worker.slots, worker.free, worker.takes, worker.problem) == (2, 2, True, None)
            assert worker.address.startswith("ws://")
        ids = [worker.id for worker in ground.fleet.workers()]
        assert len(set(ids)) == 2
        assert [worker.id for worker in ground.fleet.workers()] == ids

    async def test_conversations_are_held_and_their_slots_counted(self, ground: Ground) -> None:
        await ground.up("a")
        worker = await ground.one("a", "ready")
        talks = [await Talk.on(ground.pool, worker) for _ in range(2)]
        for talk in talks:
            await talk.goes_on()
        await until(lambda: ground.of("a")[0].free == 0)
        assert not ground.of("a")[0].takes
        for talk in talks:
            await talk.close()
        ground.fleet.changed(worker.id, lost=False)
        await until(lambda: ground.of("a")[0].free == 2)

    async def test_another_model_takes_over_and_nobody_is_dropped(self, ground: Ground) -> None:
        await ground.up(*(("old",) if ground.keeps else ("old", "new")))
        held = await Talk.on(ground.pool, await ground.one("old", "ready"))
        await held.goes_on()
        await ground.fleet.want([ground.deployment("new")])
        new = await Talk.on(ground.pool, await ground.one("new", "ready"))
        await new.goes_on()
        if ground.keeps:
            assert not (await ground.one("old", "draining")).takes
            await asyncio.sleep(1)  # longer than an idle one would stay
        else:
            await ground.one("old", "ready")
        await held.goes_on()
        await held.close()
        if ground.keeps:
            await until(lambda: not ground.of("old"), ground.fleet.workers)
            assert not ground.pids("old")
        await new.goes_on()
        await new.close()

    async def test_a_killed_worker_is_seen_to_be_lost_and_comes_back(self, ground: Ground) -> None:
        await ground.up("a", "b")
        worker, other = await ground.one("a", "ready"), await ground.one("b", "ready")
        talk, neighbour = await Talk.on(ground.pool, worker), await Talk.on(ground.pool, other)
        await talk.goes_on()
        processes = ground.pids("b")
        kill(ground.pids("a"))
        assert not (await ground.one("a", "lost")).takes
        await until(lambda: talk.lost is not None)
        await talk.close()
        await ground.revive("a")
        again = await ground.one("a", "ready")
        assert (again.id, again.free) == (worker.id, 2)
        anew = await Talk.on(ground.pool, again)
        await anew.goes_on()
        await neighbour.goes_on()
        assert ground.pids("b") == processes
        assert ground.of("b")[0].address == other.address
        await anew.close()
        await neighbour.close()

    async def test_one_that_cannot_load_says_why_and_its_neighbour_serves(self, ground: Ground) -> None:
        await ground.up("a", "bad")
        worker = await ground.one("a", "ready")
        processes = ground.pids("a")
        if ground.keeps:
            assert (await ground.one("bad", "failed")).problem == BAD
        else:
            await until(lambda: "lost" in [worker.state for worker in ground.fleet.workers()])
        talk = await Talk.on(ground.pool, worker)
        await talk.goes_on()
        await talk.close()
        assert ground.pids("a") == processes
        assert ground.of("a")[0].address == worker.address

    async def test_when_it_is_closed_no_process_is_left(self, ground: Ground) -> None:
        await ground.up("a", "b")
        await ground.one("a", "ready")
        await ground.fleet.want([ground.deployment("a"), ground.deployment("b"), ground.deployment("late")])
        await ground.fleet.close()
        if ground.keeps:
            await ground.emptied()
        else:
            assert len(ground.pids()) == 2  # they are not its own


class KeepingContract(FleetContract):
    """Of those that start and stop their workers."""

    async def test_it_grows_and_shrinks(self, ground: Ground) -> None:
        await ground.up()
        assert ground.fleet.workers() == ()
        for count in (1, 2, 1, 0):
            await ground.fleet.want([ground.deployment("a", workers=count)])
            await until(partial(_runs, ground, count), ground.fleet.workers)
            assert len({worker.address for worker in ground.of("a")}) == count

    async def test_one_that_is_wanted_again_while_somebody_talks_stays(self, ground: Ground) -> None:
        await ground.up("a")
        worker = await ground.one("a", "ready")
        talk = await Talk.on(ground.pool, worker)
        await talk.goes_on()
        await ground.fleet.want([])
        assert ground.of("a")[0].state == "draining"
        await ground.fleet.want([ground.deployment("a")])
        assert (await ground.one("a", "ready")).address == worker.address
        await talk.goes_on()
        await talk.close()


def _runs(ground: Ground, count: int) -> bool:
    return [worker.state for worker in ground.of("a")] == ["ready"] * count and len(ground.pids("a")) == count
