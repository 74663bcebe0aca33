"""Helpers for asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def gather_all(*work: Awaitable[None]) -> None:
    """Run all at once; where one fails, stop the others and raise its error."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
