from __future__ import annotations

import asyncio
import threading
import time

import pytest

from routing.chain.aside import aside


async def test_it_brings_what_the_work_comes_to_from_another_thread() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    assert await aside(work) != threading.get_ident()


async def test_an_error_comes_back_as_it_is() -> None:
    async def work() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await aside(work)


async def test_the_callers_loop_goes_on_while_it_computes() -> None:
    go_on = threading.Event()

    async def work() -> bool:
        return go_on.wait(60)

    working = asyncio.create_task(aside(work))
    await asyncio.sleep(0.01)
    go_on.set()
    assert await working


async def test_what_is_cancelled_is_over_when_the_cancellation_is() -> None:
    begun, cleaned = threading.Event(), []

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append("cleaned")

    working = asyncio.create_task(aside(work))
    await asyncio.to_thread(begun.wait, 60)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert cleaned == ["cleaned"]


async def test_what_is_cancelled_before_it_begins_is_over_too() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    working = asyncio.create_task(aside(work))
    await asyncio.sleep(0)
    working.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await working


@pytest.mark.parametrize("error", [LookupError("late"), None])
async def test_what_comes_of_work_that_was_given_up_is_told_to_nobody(error: Exception | None) -> None:
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        time.sleep(0.05)  # noqa: ASYNC251  (it computes)
        if error is not None:
            raise error

    working = asyncio.create_task(aside(work))
    await asyncio.to_thread(begun.wait, 60)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
