"""Work on an event loop of its own, so that the caller's goes on while much is decoded in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `work` comes to on another thread's event loop. Cancelled, it cancels that, and waits for its end."""
    begun: Future[Callable[[], None]] = Future()  # brings what cancels it

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  (we are in it)
        begun.set_result(lambda: _cancel(loop, task))
        return await work()

    running = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(main())))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        begun.add_done_callback(lambda begun: begun.result()())
        await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # nobody is left to be told
        raise


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with suppress(RuntimeError):  # it is over already, and its loop closed
        loop.call_soon_threadsafe(task.cancel)
