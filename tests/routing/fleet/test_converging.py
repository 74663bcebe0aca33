"""Workers that are kept, in virtual time: what a launcher and the workers do is decided by a test."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from routing.fleet.contract import Deployment, Worker
from routing.fleet.converging import ConvergingFleet
from routing.fleet.launcher import Exit
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober, Sighting
from routing.fleet.watch import Pace
from streaming.errors import EngineError
from tests.models.virtual_time import now_ns, run
from tests.routing.fleet.fake_engine import Place, info

OLD = Deployment(key="old", weights="old")
NEW = Deployment(key="new", weights="new")


@dataclass
class FakeWorker:
    """`loads`: seconds until it is ready, `ends`: until it has stopped. `talking` are on it."""

    deployment: Deployment
    address: str
    launched: float
    loads: float = 1.0
    refusal: str | None = None
    talking: int = 0
    answers: bool = True
    ends: float = 0.0
    stopped: list[float] = field(default_factory=list)
    over: asyncio.Future[Exit] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def ready(self) -> str | Exit:
        await asyncio.wait((self.over,), timeout=self.loads)
        if self.refusal is not None:
            self.crash(Exit(problem=self.refusal, refused=True))
        return self.over.result() if self.over.done() else self.address

    async def gone(self) -> Exit:
        return await asyncio.shield(self.over)

    async def stop(self, patience: float) -> None:
        self.stopped.append(patience)
        await asyncio.sleep(self.ends)
        self.crash(Exit(problem="stopped"))

    def crash(self, how: Exit) -> None:
        if not self.over.done():
            self.over.set_result(how)


class World(Prober):
    """A launcher, the workers that it has launched, and the looks at them."""

    def __init__(self, **pace: Any) -> None:
        self.pool = EnginePool(lambda _: Place().build(), clock=now_ns)
        super().__init__(self.pool)
        self.launched: list[FakeWorker] = []
        self.next: dict[str, Any] = {}
        self.fault: Exception | None = None
        self.launching = 0.0  # seconds
        self.fleet = ConvergingFleet(self, prober=self, pool=self.pool, clock=now_ns, pace=Pace(**pace))

    async def start(self) -> None:
        pass

    async def launch(self, deployment: Deployment) -> FakeWorker:
        if self.fault is not None:
            raise self.fault
        await asyncio.sleep(self.launching)
        number = len(self.launched) + 1
        worker = FakeWorker(deployment, f"ws://w:{number}", now_ns() / 1e9, **self.next)
        self.launched.append(worker)
        return worker

    async def look(self, address: str) -> Sighting:
        (worker,) = [worker for worker in self.launched if worker.address == address]
        if worker.over.done() or not worker.answers:
            return Sighting(state="lost", problem="it does not answer")
        return Sighting(state="ready", info=info(worker.deployment.key), slots=2, free=2 - worker.talking)

    def only(self) -> Worker:
        (worker,) = self.fleet.workers()
        return worker

    @property
    def launches(self) -> list[float]:
        """When each worker was launched, in seconds."""
        return [worker.launched for worker in self.launched]


def in_world(test: Any) -> Any:
    def tried(**pace: Any) -> None:
        async def main() -> None:
            world = World(**pace)
            await test(world)
            await world.fleet.close()
            assert all(worker.over.done() for worker in world.launched)
            assert len(asyncio.all_tasks()) == 1

        work: Coroutine[Any, Any, None] = main()
        run(work)

    tried.__name__ = test.__name__
    return tried


@in_world
async def test_it_starts_what_is_wanted_and_says_so(world: World) -> None:
    await world.fleet.want([OLD, NEW])
    assert [(worker.key, worker.state, worker.address) for worker in world.fleet.workers()] == [
        ("old", "starting", ""), ("new", "starting", ""),
    ]  # fmt: skip
    await asyncio.sleep(1.1)
    assert [(worker.state, worker.address, worker.free, worker.since) for worker in world.fleet.workers()] == [
        ("ready", "ws://w:1", 2, 1_000_000_000), ("ready", "ws://w:2", 2, 1_000_000_000),
    ]  # fmt: skip


@in_world
async def test_wanting_the_same_again_changes_nothing(world: World) -> None:
    for _ in range(20):
        await world.fleet.want([OLD, NEW])
        await asyncio.sleep(0.3)
    assert len(world.launched) == 2


@in_world
async def test_what_is_refused_is_told_and_not_tried_faster_than_the_backoff(world: World) -> None:
    world.next = {"refusal": "model.safetensors: sha256 is wrong"}
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    assert (world.only().state, world.only().problem) == ("failed", "model.safetensors: sha256 is wrong")
    for _ in range(3000):
        await world.fleet.want([OLD])
        await asyncio.sleep(1)
    between = [later - sooner - 1 for sooner, later in zip(world.launches, world.launches[1:], strict=False)]
    assert between == [15, 30, 60, 120, 240, 480, 600, 600, 600]
    world.next = {}
    await asyncio.sleep(700)
    assert (world.only().state, world.only().problem) == ("ready", None)


@in_world
async def test_one_that_crashes_is_lost_and_started_anew_ever_more_slowly(world: World) -> None:
    await world.fleet.want([OLD])
    for pause in (0.5, 1, 2, 4, 8, 16, 32, 60, 60):
        await asyncio.sleep(1.1)
        assert world.only().state == "ready"
        world.launched[-1].crash(Exit(problem="the model has failed"))
        await asyncio.sleep(0.01)
        assert (world.only().state, world.only().problem, world.only().address) == ("lost", "the model has failed", "")
        await asyncio.sleep(pause)
        assert world.only().state == "starting"


@in_world
async def test_why_one_is_lost_is_told_while_what_is_left_of_it_is_cleared_away(world: World) -> None:
    world.next = {"ends": 5.0}
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.launched[0].crash(Exit(problem="the model has failed"))
    await asyncio.sleep(1)
    assert len(world.launched[0].stopped) == 1
    assert (world.only().state, world.only().problem) == ("lost", "the model has failed")


@in_world
async def test_one_that_has_run_for_long_is_started_anew_at_once(world: World) -> None:
    await world.fleet.want([OLD])
    for _ in range(9):
        await asyncio.sleep(100)
        world.launched[-1].crash(Exit(problem="killed"))
        await asyncio.sleep(0.6)
        assert world.only().state == "starting"


@in_world
async def test_one_that_hangs_is_lost_and_then_replaced(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(5)
    world.launched[0].answers = False
    await asyncio.sleep(2)
    assert (world.only().state, world.only().problem) == ("lost", "it does not answer")
    await asyncio.sleep(10.5)
    world.launched[0].answers = True  # it was the network
    await asyncio.sleep(10)
    assert (world.only().state, len(world.launched)) == ("ready", 1)
    world.launched[0].answers = False
    await asyncio.sleep(20)
    assert (world.only().state, len(world.launched), world.launched[0].over.done()) == ("ready", 2, True)


@in_world
async def test_one_that_never_loads_is_given_up(world: World) -> None:
    world.next = {"loads": 10**9}
    await world.fleet.want([OLD])
    await asyncio.sleep(3600.1)
    assert (world.only().state, world.only().problem) == ("lost", "it has not loaded its model within 3600 s")
    assert world.launched[0].over.done()


@in_world
async def test_where_none_can_be_launched_that_is_told_and_tried_again(world: World) -> None:
    world.fault = EngineError("Ray cannot be reached", detail="nobody is at 192.0.2.1")
    await world.fleet.want([OLD])
    await asyncio.sleep(0.1)
    assert (world.only().state, world.only().problem) == ("lost", "no worker can be started: Ray cannot be reached")
    world.fault = OSError(2, "No such file", "/opt/python")
    await asyncio.sleep(2)
    assert world.only().problem == "no worker can be started"
    world.fault = None
    await asyncio.sleep(5)
    assert world.only().state == "ready"


@in_world
async def test_one_that_is_let_go_stays_until_the_last_conversation_is_over(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.launched[0].talking = 1
    await world.fleet.want([NEW])
    old = world.fleet.workers()[0]
    assert (old.state, old.takes) == ("draining", False)
    await asyncio.sleep(3600)
    assert [worker.state for worker in world.fleet.workers()] == ["draining", "ready"]
    world.launched[0].talking = 0
    world.fleet.changed(old.id, lost=False)
    await asyncio.sleep(0.01)
    assert world.only().key == "new"
    assert world.launched[0].stopped == [30.0]


@in_world
async def test_the_connection_to_one_that_has_gone_is_given_up(world: World) -> None:
    """Another process may have its port next."""
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    await world.pool.start(world.only().address)
    world.launched[0].crash(Exit(problem="killed"))
    await asyncio.sleep(0.1)
    assert not world.pool.is_started(world.launched[0].address)


@in_world
async def test_an_idle_one_waits_for_who_has_just_been_sent_to_it(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    await world.fleet.want([])
    await asyncio.sleep(5)
    world.launched[0].talking = 1  # placed before it was let go
    await asyncio.sleep(60)
    assert world.only().state == "draining"
    world.launched[0].talking = 0
    await asyncio.sleep(1.1)
    assert world.fleet.workers() == ()


@in_world
async def test_one_that_hangs_while_it_drains_is_not_waited_for(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.launched[0].talking = 1
    await world.fleet.want([])
    world.launched[0].answers = False
    await asyncio.sleep(20)
    assert world.fleet.workers() == ()
    assert len(world.launched) == 1


@in_world
async def test_one_that_still_loads_goes_at_once_when_it_is_not_wanted(world: World) -> None:
    world.next = {"loads": 1000}
    await world.fleet.want([OLD])
    await asyncio.sleep(1)
    await world.fleet.want([])
    await asyncio.sleep(0.01)
    assert world.fleet.workers() == ()
    assert world.launched[0].over.done()


@in_world
async def test_one_that_is_being_stopped_is_stopped_to_the_end(world: World) -> None:
    world.next = {"ends": 5.0}
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.launched[0].answers = False
    await asyncio.sleep(17)
    assert (world.launched[0].stopped, world.only().takes) == ([5.0], False)
    await world.fleet.want([])
    await asyncio.sleep(5)
    assert world.launched[0].over.done()
    assert world.fleet.workers() == ()


@pytest.mark.parametrize(("launching", "loads"), [(10.0, 1.0), (0.0, 1000.0)])
def test_one_that_is_being_stopped_when_all_is_closed_is_stopped_first(launching: float, loads: float) -> None:
    """Let go while it is launched, or while it loads: what has been begun is there, and would stay."""

    async def test(world: World) -> None:
        world.launching, world.next = launching, {"ends": 5.0, "loads": loads}
        await world.fleet.want([OLD])
        await asyncio.sleep(1)
        await world.fleet.want([])
        await asyncio.sleep(1)
        await world.fleet.close()
        assert [worker.over.done() for worker in world.launched] == [True]

    in_world(test)()


@in_world
async def test_one_that_ends_takes_nobody(world: World) -> None:
    world.next = {"ends": 5.0}
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    closing = asyncio.create_task(world.fleet.close())
    await asyncio.sleep(1)
    assert not world.only().takes
    await closing


@in_world
async def test_one_that_is_wanted_again_is_the_same_and_one_that_is_ending_is_not(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    await world.fleet.want([])
    await world.fleet.want([OLD])
    await asyncio.sleep(60)
    assert (world.only().state, len(world.launched)) == ("ready", 1)
    world.next = {"loads": 1000}
    await world.fleet.want([OLD, NEW])
    await asyncio.sleep(1)
    await world.fleet.want([OLD])
    world.next = {}
    await world.fleet.want([OLD, NEW])
    await asyncio.sleep(2)
    assert [worker.state for worker in world.fleet.workers()] == ["ready", "ready"]


@in_world
async def test_it_shrinks_where_fewest_talk(world: World) -> None:
    await world.fleet.want([Deployment(key="old", weights="old", workers=3)])
    await asyncio.sleep(2)
    world.launched[0].talking, world.launched[1].talking = 1, 2
    await asyncio.sleep(2)
    await world.fleet.want([OLD])
    assert [worker.state for worker in world.fleet.workers()] == ["draining", "ready", "draining"]


@in_world
async def test_one_whose_neighbour_fails_is_not_touched(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.next = {"refusal": "no"}
    await world.fleet.want([OLD, NEW])
    await asyncio.sleep(100)
    first = world.fleet.workers()[0]
    assert (first.state, first.since, world.launched[0].stopped) == ("ready", 1_000_000_000, [])


@in_world
async def test_a_defect_in_a_look_ends_one_life_of_the_worker_and_not_its_keeping(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    world.launched[0].deployment = None  # type: ignore[assignment]  # what a look trips over
    await asyncio.sleep(5)
    assert (world.only().state, len(world.launched)) == ("ready", 2)


@in_world
async def test_when_it_is_closed_nothing_more_is_started(world: World) -> None:
    await world.fleet.want([OLD])
    await asyncio.sleep(2)
    await world.fleet.close()
    await world.fleet.want([NEW])
    assert world.fleet.workers() == ()
    assert len(world.launched) == 1


@pytest.mark.parametrize("state", ["starting", "ready", "lost"])
def test_it_can_be_closed_in_every_state(state: str) -> None:
    async def test(world: World) -> None:
        world.next = {"loads": 10.0} if state == "starting" else {}
        await world.fleet.want([OLD])
        await asyncio.sleep(2)
        if state == "lost":
            world.launched[0].crash(Exit(problem="killed"))
            await asyncio.sleep(0.01)
        assert world.only().state == state

    in_world(test)()
