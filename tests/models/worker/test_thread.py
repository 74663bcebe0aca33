from __future__ import annotations

import asyncio
import threading

import pytest

from models.worker.thread import BatchThread


@pytest.fixture
def calls() -> BatchThread:
    return BatchThread()


async def test_all_calls_are_made_in_one_thread_in_order(calls: BatchThread) -> None:
    seen: list[tuple[int, int]] = []

    def note(number: int) -> None:
        seen.append((number, threading.get_ident()))

    await asyncio.gather(*(calls.call(note, number) for number in range(20)))
    assert [number for number, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()
    calls.close()


async def test_what_a_call_returns_or_raises_comes_back(calls: BatchThread) -> None:
    assert await calls.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await calls.call(divmod, 7, 0)
    assert await calls.call(int, "1") == 1
    calls.close()


async def test_a_caller_that_has_gone_does_not_end_the_thread(calls: BatchThread) -> None:
    going = threading.Event()
    waiting = asyncio.create_task(calls.call(going.wait, 5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    going.set()
    assert await calls.call(int, "1") == 1
    calls.close()


def test_a_loop_that_has_closed_does_not_end_the_thread(calls: BatchThread) -> None:
    going = threading.Event()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calls.call(going.wait, 5), 0.01)

    asyncio.run(leave())
    going.set()
    assert asyncio.run(calls.call(int, "1")) == 1
    calls.close()


async def test_close_ends_it_after_the_calls_that_wait(calls: BatchThread) -> None:
    threads: list[threading.Thread] = []
    last = asyncio.create_task(calls.call(lambda: threads.append(threading.current_thread())))
    await asyncio.sleep(0)
    calls.close()
    await last
    await asyncio.to_thread(threads[0].join, 5)
    assert not threads[0].is_alive()
