"""Watches how late the event loop wakes its sleepers: whatever blocks it delays every conversation."""

from __future__ import annotations

import asyncio

from prometheus_client import Histogram

INTERVAL = 0.02


async def sample_stalls(histogram: Histogram) -> None:
    """Observe the loop's lateness, in seconds, every INTERVAL, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time() + INTERVAL
        await asyncio.sleep(INTERVAL)
        histogram.observe(max(0.0, loop.time() - asked))
