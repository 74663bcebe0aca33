"""Waiting for what a test has set off. Only a hang reaches the limit, whatever else the machine does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds."""


async def until(holds: Callable[[], object]) -> None:
    """Come back once it holds: seen from outside, neither the server nor the doubles signal anything."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


async def settled(turns: int = 50) -> None:
    """Give all that could go on by itself, within this loop and without any time passing, its turns to do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
