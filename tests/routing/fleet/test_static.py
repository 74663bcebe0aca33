"""A fixed list in virtual time, with looks that a test decides."""

from __future__ import annotations

import asyncio
import logging

import pytest

from routing.fleet.contract import Deployment
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober, Sighting
from routing.fleet.static import StaticFleet
from streaming.errors import EngineError
from tests.models.virtual_time import now_ns, run
from tests.routing.fleet.fake_engine import Place, info

A, B = "ws://a:1", "ws://b:1"
READY = Sighting(state="ready", info=info("m"), slots=2, free=2)
LOST = Sighting(state="lost", problem="nobody is there")
STARTING = Sighting(state="starting")


class Looks(Prober):
    """`slow`: seconds that a look at an address takes."""

    def __init__(self, **seen: Sighting) -> None:
        super().__init__(EnginePool(lambda _: Place().build()))
        self.seen = {f"ws://{name}:1": sighting for name, sighting in seen.items()}
        self.slow: dict[str, float] = {}
        self.looks: list[tuple[str, float]] = []

    async def look(self, address: str) -> Sighting:
        self.looks.append((address, now_ns() / 1e9))
        await asyncio.sleep(self.slow.get(address, 0))
        return self.seen[address]


def fleet(looks: Looks) -> StaticFleet:
    return StaticFleet(list(looks.seen), prober=looks, clock=now_ns)


def test_it_has_started_when_one_serves_and_looks_for_the_others() -> None:
    async def main() -> None:
        looks = Looks(a=READY, b=LOST)
        workers = fleet(looks)
        await workers.start()
        assert [(worker.id, worker.state, worker.key) for worker in workers.workers()] == [
            ("worker-1", "ready", "m"), ("worker-2", "lost", ""),
        ]  # fmt: skip
        looks.seen[B] = Sighting(state="ready", info=info("n"))
        await asyncio.sleep(1.1)
        assert [worker.key for worker in workers.workers()] == ["m", "n"]
        await workers.close()

    run(main())


def test_while_all_load_it_waits() -> None:
    async def main() -> None:
        looks = Looks(a=STARTING, b=LOST)
        workers = fleet(looks)
        starting = asyncio.create_task(workers.start())
        await asyncio.sleep(100)
        assert not starting.done()
        looks.seen[A] = READY
        await starting
        await workers.close()

    run(main())


def test_where_nobody_is_there_it_does_not_start_and_says_so() -> None:
    async def main() -> None:
        with pytest.raises(EngineError, match="ws://a:1: nobody is there; ws://b:1: nobody is there"):
            await fleet(Looks(a=LOST, b=LOST)).start()
        with pytest.raises(EngineError, match="MUSE_ENGINE"):
            await fleet(Looks()).start()
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_what_is_wrong_with_a_worker_is_logged_once_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        looks = Looks(a=READY, b=Sighting(state="lost", problem="nobody is there", detail="b has no such port"))
        workers = fleet(looks)
        await workers.start()
        await asyncio.sleep(5)
        looks.seen[B] = READY
        await asyncio.sleep(5)
        await workers.close()

    with caplog.at_level(logging.INFO, "routing.fleet.static"):
        run(main())
    told = [(record.message, record.__dict__["fields"]) for record in caplog.records]
    fields = {"worker": "worker-2", "address": B}
    assert told == [
        ("a worker cannot be used", {**fields, "state": "lost", "problem": "nobody is there: b has no such port"}),
        ("a worker is back", {**fields, "state": "ready"}),
    ]


def test_an_engine_of_this_process_has_its_name() -> None:
    workers = StaticFleet(["ws://a:1", "echo"], prober=Looks(), clock=lambda: 0)
    assert [worker.id for worker in workers.workers()] == ["worker-1", "echo"]


def test_one_that_answers_slowly_delays_no_look_at_another() -> None:
    async def main() -> None:
        looks = Looks(a=READY, b=READY)
        looks.slow[B] = 1000
        workers = fleet(looks)
        await workers.start()
        await asyncio.sleep(3.5)
        assert [at for address, at in looks.looks if address == A] == [0, 1, 2, 3]
        await workers.close()

    run(main())


def test_a_worker_that_a_conversation_lost_is_looked_at_at_once() -> None:
    async def main() -> None:
        looks = Looks(a=READY, b=READY)
        workers = fleet(looks)
        await workers.start()
        await asyncio.sleep(0.3)
        looks.seen[A] = LOST
        workers.changed("worker-1", lost=True)
        workers.changed("unknown", lost=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert [(worker.state, worker.since, worker.key) for worker in workers.workers()] == [
            ("lost", 300_000_000, "m"), ("ready", 0, "m"),
        ]  # fmt: skip
        assert not workers.workers()[0].takes
        await workers.close()

    run(main())


def test_what_is_listed_stays_in_service_whatever_is_wanted() -> None:
    async def main() -> None:
        workers = fleet(Looks(a=READY))
        await workers.start()
        await workers.want([Deployment(key="other", weights="other")])
        await asyncio.sleep(5)
        assert workers.workers()[0].takes
        await workers.close()

    run(main())


def test_an_address_that_is_listed_twice_is_one_worker() -> None:
    async def main() -> None:
        workers = StaticFleet([A, A], prober=Looks(a=READY), clock=now_ns)
        await workers.start()
        assert len(workers.workers()) == 1
        await workers.close()

    run(main())


def test_a_worker_that_came_back_with_another_model_is_under_its_new_key() -> None:
    async def main() -> None:
        looks = Looks(a=READY)
        workers = fleet(looks)
        await workers.start()
        looks.seen[A] = Sighting(state="ready", info=info("new"), slots=2, free=2)
        await asyncio.sleep(1.1)
        assert workers.workers()[0].key == "new"
        await workers.close()

    run(main())
