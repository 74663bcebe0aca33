import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from models.embedded.scheduler import Job, Scheduler
from streaming.errors import EngineError

PATIENCE = 60.0
"""Seconds that only a hang uses up."""


@pytest.fixture
async def one_core() -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(workers=1, max_sessions=8, jobs_per_session=3)
    yield scheduler
    await scheduler.close()


def at(deadline: int) -> Callable[[], int]:
    return lambda: deadline


class Blocker:
    """A job that holds its core until it is told to go on, step by step."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self, job: Job) -> None:
        self.began.set()
        assert self.go.wait(PATIENCE)


async def occupy(scheduler: Scheduler) -> tuple[Blocker, "asyncio.Task[None]"]:
    blocker = Blocker()
    task = asyncio.create_task(scheduler.run("busy", blocker, needed_at=at(0)))
    assert await asyncio.to_thread(blocker.began.wait, PATIENCE)
    return blocker, task


async def until_waiting(scheduler: Scheduler, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(scheduler._gate._waiting) < count:  # noqa: ASYNC110 - threads wait there, not tasks
            await asyncio.sleep(0.001)


async def test_the_earliest_deadline_runs_first_and_equals_in_order_of_arrival(one_core: Scheduler) -> None:
    blocker, busy = await occupy(one_core)
    ran: list[str] = []
    tasks = []
    for count, (name, deadline) in enumerate([("late", 30), ("soon", 10), ("next", 20), ("next too", 20)], start=1):

        def work(job: Job, name: str = name) -> None:
            ran.append(name)

        tasks.append(asyncio.create_task(one_core.run(name, work, needed_at=at(deadline))))
        await until_waiting(one_core, count)
    blocker.go.set()
    await asyncio.gather(busy, *tasks)
    assert ran == ["soon", "next", "next too", "late"]


async def test_never_more_jobs_at_once_than_workers() -> None:
    scheduler = Scheduler(workers=2, max_sessions=8, jobs_per_session=8)
    running, most, lock = 0, 0, threading.Lock()

    def work(job: Job) -> None:
        nonlocal running, most
        for _ in range(20):
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.0005)
            with lock:
                running -= 1
            job.check()

    await asyncio.gather(*(scheduler.run(f"s{n}", work, needed_at=at(n)) for n in range(8)))
    await scheduler.close()
    assert most == 2


async def test_a_job_gives_way_between_steps_to_work_needed_sooner(one_core: Scheduler) -> None:
    steps: list[str] = []
    first_step, go_on = threading.Event(), threading.Event()

    def long(job: Job, emit: Callable[[int], None]) -> None:
        for step in range(3):
            steps.append(f"long {step}")
            first_step.set()
            assert go_on.wait(PATIENCE)
            job.check()

    async def run_long() -> None:
        async with aclosing(one_core.stream("long", long, needed_at=at(100))) as results:
            async for _ in results:
                pass

    long_task = asyncio.create_task(run_long())
    assert await asyncio.to_thread(first_step.wait, PATIENCE)
    urgent = asyncio.create_task(one_core.run("urgent", lambda job: steps.append("urgent"), needed_at=at(1)))
    patient = asyncio.create_task(one_core.run("patient", lambda job: steps.append("patient"), needed_at=at(200)))
    await until_waiting(one_core, 2)
    go_on.set()
    await asyncio.gather(long_task, urgent, patient)
    assert steps == ["long 0", "urgent", "long 1", "long 2", "patient"]


async def test_three_callers_who_are_late_share_the_core_evenly(one_core: Scheduler) -> None:
    """Each step's result pushes its caller's deadline on, as audio does: none of the three gets far ahead."""
    blocker, busy = await occupy(one_core)
    order: list[str] = []

    def talk(name: str) -> "asyncio.Task[None]":
        produced = 0

        def work(job: Job) -> None:
            nonlocal produced
            for _ in range(10):
                order.append(name)
                produced += 1
                job.check()

        return asyncio.create_task(one_core.run(name, work, needed_at=lambda: produced))

    tasks = [talk(name) for name in "abc"]
    await until_waiting(one_core, 3)
    blocker.go.set()
    await asyncio.gather(busy, *tasks)
    for end in range(1, 31):
        counts = [order[:end].count(name) for name in "abc"]
        assert max(counts) - min(counts) <= 2


async def test_a_queued_job_that_is_cancelled_never_runs(one_core: Scheduler) -> None:
    blocker, busy = await occupy(one_core)
    ran: list[str] = []
    task = asyncio.create_task(one_core.run("gone", lambda job: ran.append("gone"), needed_at=at(1)))
    await until_waiting(one_core, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_waiting(one_core, 0)
    blocker.go.set()
    await busy
    await one_core.run("after", lambda job: ran.append("after"), needed_at=at(9))
    assert ran == ["after"]


async def test_emit_waits_for_the_reader_without_holding_the_core(one_core: Scheduler) -> None:
    made: list[int] = []

    def count(job: Job, emit: Callable[[int], None]) -> None:
        for number in range(100):
            made.append(number)
            emit(number)

    async with aclosing(one_core.stream("slow reader", count, needed_at=at(1), room=2)) as results:
        assert await anext(results) == 0
        # The core is free although the counting job has not ended.
        assert await one_core.run("other", lambda job: "ran", needed_at=at(5)) == "ran"
        assert len(made) <= 4
        assert [await anext(results) for _ in range(99)] == list(range(1, 100))


async def test_closing_the_reader_stops_the_job(one_core: Scheduler) -> None:
    ended = threading.Event()

    def endless(job: Job, emit: Callable[[int], None]) -> None:
        try:
            while True:
                emit(1)
        finally:
            ended.set()

    async with aclosing(one_core.stream("s", endless, needed_at=at(1))) as results:
        await anext(results)
    assert await asyncio.to_thread(ended.wait, PATIENCE)
    assert await one_core.run("s", lambda job: 7, needed_at=at(1)) == 7


async def test_a_session_with_too_many_jobs_is_refused_and_others_are_not(one_core: Scheduler) -> None:
    blocker, busy = await occupy(one_core)
    tasks = [asyncio.create_task(one_core.run("greedy", lambda job: None, needed_at=at(1))) for _ in range(3)]
    await until_waiting(one_core, 3)
    with pytest.raises(EngineError, match="too much work"):
        await one_core.run("greedy", lambda job: None, needed_at=at(1))
    other = asyncio.create_task(one_core.run("other", lambda job: "ran", needed_at=at(1)))
    blocker.go.set()
    await asyncio.gather(busy, *tasks)
    assert await other == "ran"


async def test_a_running_job_that_is_cancelled_counts_no_more_and_is_waited_for(one_core: Scheduler) -> None:
    blocker, busy = await occupy(one_core)
    busy.cancel()
    others = [asyncio.create_task(one_core.run("busy", lambda job: None, needed_at=at(1))) for _ in range(3)]
    await until_waiting(one_core, 3)
    assert not busy.done()
    blocker.go.set()
    with pytest.raises(asyncio.CancelledError):
        await busy
    await asyncio.gather(*others)


async def test_an_error_in_the_work_comes_through(one_core: Scheduler) -> None:
    def fail(job: Job) -> None:
        raise EngineError("broken")

    with pytest.raises(EngineError, match="broken"):
        await one_core.run("s", fail, needed_at=at(1))


async def test_close_ends_waiting_jobs_with_an_engine_error() -> None:
    scheduler = Scheduler(workers=1, max_sessions=2, jobs_per_session=3)
    blocker, busy = await occupy(scheduler)
    waiting = asyncio.create_task(scheduler.run("s", lambda job: None, needed_at=at(1)))
    await until_waiting(scheduler, 1)
    closing = asyncio.create_task(scheduler.close())
    with pytest.raises(EngineError, match="closing"):
        await waiting
    blocker.go.set()
    await closing
    with pytest.raises(EngineError, match="closing"):
        await busy
