"""Running things side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def first_done(*work: Coroutine[None, None, None], patience: float | None = None) -> None:
    """Until the first of them is done or has failed; the others are cancelled, and over, on return.

    Raises what that one raised, or TimeoutError if none is done after `patience` seconds.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not done:
        raise TimeoutError
    for task in done:
        task.result()
