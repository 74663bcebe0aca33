"""What the worker costs beside its model: duplex conversations with the echo over loopback.

A tick's cost, less what the echo itself takes, is from its beginning until its last frame has been handed to a socket:
gathering the frames, the way to the batch's thread and back, writing. What the sockets take between the ticks, reading
and pings, shows in the CPU time.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.worker_process import RunningWorker, running_worker
from models.link.engine import LinkOptions, WorkerEngine
from streaming.engine import Begin, EngineLost, HearAudio
from streaming.wire.moshi import FRAME_SAMPLES

SESSIONS = (1, 8, 16, 32)
SECONDS = 15.0
_FRAME_SECONDS = 0.08
_COST = "muse_worker_tick_cost_seconds"


@dataclass(frozen=True, slots=True)
class Reading:
    """The worker's counters at one moment. `buckets`: ticks whose cost was at most so many seconds."""

    buckets: dict[float, float]
    seconds: float
    ticks: float
    late: float
    missed: float
    sat_out: float
    cpu: float

    def since(self, before: Reading) -> Reading:
        """What has been counted after `before`."""
        return Reading(
            {limit: count - before.buckets[limit] for limit, count in self.buckets.items()},
            self.seconds - before.seconds,
            self.ticks - before.ticks,
            self.late - before.late,
            self.missed - before.missed,
            self.sat_out - before.sat_out,
            self.cpu - before.cpu,
        )

    def cost(self, share: float) -> float:
        """The quantile of the ticks' cost, ms; linear inside a bucket."""
        wanted, below, low = share * self.ticks, 0.0, 0.0
        for limit, count in sorted(self.buckets.items()):
            if count >= wanted:
                # What lies above the last limit has none: the quantile is infinite then.
                part = (wanted - below) / max(count - below, 1)
                return 1000 * (limit if math.isinf(limit) else low + (limit - low) * part)
            below, low = count, limit
        return math.inf


async def read(worker: RunningWorker) -> Reading:
    """The counters now."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(worker.url.replace("ws", "http", 1) + "/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    plain = {sample.name: sample.value for sample in samples if not sample.labels}
    buckets = {float(s.labels["le"]): s.value for s in samples if s.name == f"{_COST}_bucket"}
    return Reading(
        buckets,
        plain[f"{_COST}_sum"],
        plain[f"{_COST}_count"],
        plain["muse_worker_tick_late_seconds_sum"],
        plain["muse_worker_deadlines_missed_total"],
        plain["muse_worker_frames_sat_out_total"],
        _cpu_seconds(worker.process.pid),
    )


async def converse(engine: WorkerEngine, phase: float, over: asyncio.Event) -> None:
    """Speak in real time until it is over; raises RuntimeError where the worker is lost."""
    session = await engine.open("benchmark")
    frame = HearAudio(audio=np.full(FRAME_SAMPLES, 0.1, np.float32))

    async def hear() -> None:
        async for event in session.events():
            if isinstance(event, EngineLost):
                raise RuntimeError(event.message)  # noqa: TRY004 the event is what it should not be

    hearing = asyncio.create_task(hear())
    session.send(Begin(instructions="", voice=""))
    due = time.monotonic() + phase
    while not over.is_set():
        due += _FRAME_SECONDS
        await asyncio.sleep(due - time.monotonic())
        session.send(frame)
        if hearing.done():
            hearing.result()
    await session.close()
    await hearing


async def measure(worker: RunningWorker, sessions: int, seconds: float) -> Reading:
    """So many conversations, spread over the tick, for so long."""
    engine = WorkerEngine(worker.url, clock=time.monotonic_ns, options=LinkOptions(patience=25))
    await engine.start()
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for index in range(sessions):
            group.create_task(converse(engine, index / sessions * _FRAME_SECONDS, over))
        await asyncio.sleep(1)
        before = await read(worker)
        await asyncio.sleep(seconds)
        after = await read(worker)
        over.set()
    await engine.close()
    return after.since(before)


def table() -> str:
    """The benchmark's table, in Markdown."""
    lines = [
        "| sessions | ticks | cost p50, ms | p95 | p99 | mean | begun late, ms | missed | sat out | CPU a tick, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    options = ("--engine", "echo-duplex", "--slots", str(max(SESSIONS)), "--late-ms", "1000")
    with running_worker(*options) as worker:
        for sessions in SESSIONS:
            found = asyncio.run(measure(worker, sessions, SECONDS))
            p50, p95, p99 = (found.cost(share) for share in (0.5, 0.95, 0.99))
            mean, late, cpu = (1000 * total / found.ticks for total in (found.seconds, found.late, found.cpu))
            lines.append(
                f"| {sessions} | {found.ticks:.0f} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {mean:.2f} | {late:.2f} "
                f"| {found.missed:.0f} | {found.sat_out:.0f} | {cpu:.1f} |"
            )
    return "\n".join(lines)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(table())
