"""What the gateway itself costs: a turn against the echo engine, which answers with the user's own audio at once.

The client commits by hand, so that no endpointing is waited for; what is left is two WebSocket hops, the codec, the
session, the driver and the pacing.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from benchmarks.recordings import SAMPLE_RATE, recordings
from benchmarks.server_process import RunningServer, running_server
from clients.realtime import RealtimeClient
from streaming.audio import resample
from streaming.client_events import CancelResponse, CommitAudio, CreateResponse
from streaming.server_events import AudioDelta, ResponseDone

TURNS = 200


async def measure(server: RunningServer, turns: int = TURNS) -> list[float]:
    """Milliseconds from the commit to the reply's first audio, turn by turn."""
    clip = recordings(names=["sphinx-001"])[0].samples
    audio = resample(clip, SAMPLE_RATE, 24_000)[: 24_000 // 2]
    waits = []
    async with RealtimeClient.connect(server.realtime) as client:
        await client.update(audio={"input": {"turn_detection": None}})
        for _ in range(turns):
            await client.append(audio)
            await asyncio.sleep(len(audio) / 24_000 / 4)
            began = time.monotonic()
            await client.send(CommitAudio())
            await client.send(CreateResponse())
            async for event in client:
                if isinstance(event, AudioDelta):
                    break
            waits.append((time.monotonic() - began) * 1000)
            await client.send(CancelResponse())
            async for event in client:
                if isinstance(event, ResponseDone):
                    break
    return waits


def table() -> str:
    """The benchmark's table, in Markdown."""
    with running_server("echo") as server:
        waits = asyncio.run(measure(server))
    p50, p95, p99 = np.percentile(waits, (50, 95, 99))
    return (
        "| gateway's own cost | turns | p50, ms | p95, ms | p99, ms |\n|---|---|---|---|---|\n"
        f"| echo engine, commit to first audio | {len(waits)} | {p50:.1f} | {p95:.1f} | {p99:.1f} |"
    )


if __name__ == "__main__":
    print(table())
