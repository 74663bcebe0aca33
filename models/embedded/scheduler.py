"""Shares the cores among all conversations: the job whose result is needed first runs first.

Every model call is single-threaded and runs as a job in a thread of its own, but only `workers` of them hold a core at
a time. A job gives way between its steps (a token, a chunk of audio) to any that is needed sooner, so a long reply
that is well ahead of its playout never delays another caller's first word: earliest deadline first, with pre-emption
at the steps.

Nobody starves: a deadline is an absolute time, no earlier than when the work was asked for or its listener ran dry, so
whoever waits comes to be the earliest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from streaming.errors import EngineError

T = TypeVar("T")

Deadline = Callable[[], int]
"""When the next step's result is needed, in monotonic ns. Called from the job's thread: it must only read."""


class JobCancelledError(Exception):
    """Unwinds a job's work: whoever asked for it has gone."""


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class Scheduler:
    """Runs jobs for sessions: at most `workers` at the same moment, at most `jobs_per_session` accepted for each.

    A job that was cancelled counts no more, though its step goes on for a while.
    """

    def __init__(self, *, workers: int, max_sessions: int, jobs_per_session: int) -> None:
        self._gate = _Gate(workers)
        self._limit = jobs_per_session
        self._jobs: defaultdict[str, set[Job]] = defaultdict(set)
        # Of the cancelled jobs only those that hold a core keep their thread.
        self._threads = ThreadPoolExecutor(max_sessions * jobs_per_session + workers, thread_name_prefix="model")

    async def run(self, session_id: str, work: Callable[[Job], T], *, needed_at: Deadline) -> T:
        """The result of `work(job)`. Cancelling this call cancels the job, and returns once it does nothing any more:
        at once where it is queued, after its step where it runs.

        Raises EngineError where the session has too many jobs; what `work` raises comes through.
        """

        def once(job: Job, emit: Callable[[T], None]) -> None:
            emit(work(job))

        async with aclosing(self.stream(session_id, once, needed_at=needed_at)) as results:
            return await anext(results)

    async def stream(
        self, session_id: str, work: Callable[[Job, Callable[[T], None]], None], *, needed_at: Deadline, room: int = 2
    ) -> AsyncGenerator[T, None]:
        """What `work(job, emit)` emits, in order. `emit` waits, without a core, while `room` results are unread.

        Between its steps the work calls `job.check()`.

        Close the iterator (`contextlib.aclosing`) to cancel the job, as with `run`. Raises as `run` does.
        """
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[T | _Ended] = asyncio.Queue()
        job = self._admit(session_id, needed_at, room)

        def deliver(item: T | _Ended) -> None:
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, item)
            except RuntimeError:  # the loop has closed: nobody is left to read
                job.cancel()

        def emit(item: T) -> None:
            job.wait_for_room()
            deliver(item)

        item: T | _Ended | None = None
        self._threads.submit(_work, job, lambda: work(job, emit), deliver)
        try:
            while not isinstance(item := await arrived.get(), _Ended):
                yield item
                job.make_room()
            if isinstance(item.error, JobCancelledError):
                raise EngineError("the engine is closing", code="engine_closed")
            if item.error is not None:
                raise item.error
        finally:
            self._give_up(session_id, job)
            while not isinstance(item, _Ended):
                item = await arrived.get()

    async def close(self) -> None:
        """Cancel all jobs and wait until their threads have ended."""
        for jobs in self._jobs.values():
            for job in jobs:
                job.cancel()
        await asyncio.to_thread(self._threads.shutdown)

    def _admit(self, session_id: str, needed_at: Deadline, room: int) -> Job:
        if len(self._jobs[session_id]) >= self._limit:
            raise EngineError("too much work is waiting for this session", code="engine_overloaded")
        job = Job(self._gate, needed_at, room)
        self._jobs[session_id].add(job)
        return job

    def _give_up(self, session_id: str, job: Job) -> None:
        job.cancel()
        self._jobs[session_id].discard(job)
        if not self._jobs[session_id]:
            del self._jobs[session_id]


def _work(job: Job, work: Callable[[], None], deliver: Callable[[_Ended], None]) -> None:
    error: BaseException | None = None
    try:
        job.begin()
        work()
    except BaseException as caught:
        error = caught
    finally:
        job.end()
        deliver(_Ended(error))


class Job:
    """A job as its own work sees it, from its thread."""

    def __init__(self, gate: _Gate, needed_at: Deadline, room: int) -> None:
        self._gate = gate
        self._needed_at = needed_at
        self._room = threading.Semaphore(room)
        self._seat = _Seat()

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._seat.cancelled

    def check(self) -> None:
        """Between two steps: give way to work that is needed sooner. Raises JobCancelledError when cancelled."""
        self._gate.give_way(self._seat, self._needed_at())

    def cancel(self) -> None:
        """Safe from any thread. The work ends at its next step, or at once where it waits."""
        self._gate.cancel(self._seat)
        self._room.release()

    def begin(self) -> None:
        """Wait for a core."""
        self._gate.acquire(self._seat, self._needed_at())

    def end(self) -> None:
        """Hand the core on."""
        self._gate.release(self._seat)

    def wait_for_room(self) -> None:
        """Before a result is handed over: wait, without a core, until the reader has room. Raises as `check` does."""
        if self.cancelled:
            raise JobCancelledError
        if not self._room.acquire(blocking=False):
            self._gate.release(self._seat)
            self._room.acquire()
            self._gate.acquire(self._seat, self._needed_at())

    def make_room(self) -> None:
        """The reader has taken a result."""
        self._room.release()


class _Seat:
    """One job's place at the gate."""

    def __init__(self) -> None:
        self.has_core = False
        self.cancelled = False
        self.called = threading.Event()


class _Gate:
    """A fixed number of cores and those who wait for one, earliest deadline first, then in order of arrival."""

    def __init__(self, cores: int) -> None:
        self._lock = threading.Lock()
        self._free = cores
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, _Seat]] = []

    def acquire(self, seat: _Seat, deadline: int) -> None:
        with self._lock:
            if self._free and not seat.cancelled:
                self._free -= 1
                seat.has_core = True
                return
            self._queue(seat, deadline)
        self._wait(seat)

    def give_way(self, seat: _Seat, deadline: int) -> None:
        with self._lock:
            if not seat.cancelled:
                if not self._waiting or self._waiting[0][0] >= deadline:
                    return
                self._hand_on(seat)
                self._queue(seat, deadline)
        self._wait(seat)

    def release(self, seat: _Seat) -> None:
        with self._lock:
            if seat.has_core:
                self._hand_on(seat)

    def cancel(self, seat: _Seat) -> None:
        with self._lock:
            seat.cancelled = True
            self._waiting = [entry for entry in self._waiting if entry[2] is not seat]
            heapq.heapify(self._waiting)
            seat.called.set()

    def _queue(self, seat: _Seat, deadline: int) -> None:
        if not seat.cancelled:
            seat.called.clear()
            heapq.heappush(self._waiting, (deadline, next(self._order), seat))

    def _hand_on(self, seat: _Seat) -> None:
        seat.has_core = False
        if self._waiting:
            _, _, chosen = heapq.heappop(self._waiting)
            chosen.has_core = True
            chosen.called.set()
        else:
            self._free += 1

    def _wait(self, seat: _Seat) -> None:
        if not seat.cancelled:
            seat.called.wait()
        if seat.cancelled:
            raise JobCancelledError
