"""Voice to voice: from the end of a person's speech to the first sample of the reply, as a caller hears it.

Callers play recordings of people over the WebSocket in real time, 20 ms at a time, and keep silent until the reply has
come. The clock starts at the recording's last sound, which the server does not know of, and stops when the first
audio delta arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.recordings import SAMPLE_RATE, Recording, recordings
from benchmarks.server_process import RunningServer, running_server
from clients.realtime import RealtimeClient
from clients.turns import latency_of
from streaming.audio import resample
from streaming.server_events import AudioDelta, ResponseCreated, ResponseDone, SpeechStopped
from streaming.timeline import PARTS

CHUNK = 480  # 20 ms at 24 kHz
TURNS_PER_CALL = 4
LEAD_IN = 0.4
MOST_SILENCE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """One recording said to the server. `wait` is in ms; `cut`: a turn was ended before the last sound."""

    recording: str
    wait: float | None
    cut: bool
    parts: dict[str, float]


@dataclass(slots=True)
class _Ear:
    """What one caller hears during one turn; times are monotonic seconds."""

    ends: list[float] = field(default_factory=list)
    first_audio: dict[str, float] = field(default_factory=dict)
    latest: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    done: bool = False

    def hear(self, event: object, at: float) -> None:
        match event:
            case SpeechStopped():
                self.ends.append(at)
            case ResponseCreated():
                self.latest, self.done = event.response.id, False
            case AudioDelta():
                self.first_audio.setdefault(event.response_id, at)
            case ResponseDone():
                self.done = event.response.id == self.latest
                self.parts = latency_of(event.response)


class Caller:
    """One caller: holds calls of `TURNS_PER_CALL` turns until the recordings are through."""

    def __init__(self, server: RunningServer, chosen: Sequence[Recording]) -> None:
        self._server = server
        self._chosen = chosen
        self.results: list[TurnResult] = []

    async def run(self, *, delay: float) -> None:
        """Say all recordings."""
        await asyncio.sleep(delay)
        for first in range(0, len(self._chosen), TURNS_PER_CALL):
            async with RealtimeClient.connect(self._server.realtime) as client:
                for recording in self._chosen[first : first + TURNS_PER_CALL]:
                    self.results.append(await self._turn(client, recording))

    async def _turn(self, client: RealtimeClient, recording: Recording) -> TurnResult:
        ear = _Ear()
        listening = asyncio.create_task(self._listen(client, ear))
        try:
            return await self._speak(client, recording, ear)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, client: RealtimeClient, ear: _Ear) -> None:
        async for event in client:
            ear.hear(event, time.monotonic())

    async def _speak(self, client: RealtimeClient, recording: Recording, ear: _Ear) -> TurnResult:
        """Speak the recording, then keep silent until the reply to its end has been heard."""
        spoken = resample(recording.samples, SAMPLE_RATE, 24_000)
        last_sound = int(recording.speech_end() * 24_000)
        audio = np.concatenate([np.zeros(int(LEAD_IN * 24_000), np.float32), spoken[:last_sound]])
        start = time.monotonic()
        ended = start + len(audio) / 24_000
        silence = np.zeros(CHUNK, np.float32)
        position = 0
        while True:
            position += CHUNK
            await asyncio.sleep(start + position / 24_000 - time.monotonic())
            chunk = audio[position - CHUNK : position]
            await client.append(np.concatenate([chunk, silence[len(chunk) :]]) if len(chunk) < CHUNK else chunk)
            now = time.monotonic()
            over = now > ended + 0.3 and ear.done and now > client.playout.ends / 1e9
            if over or now > ended + MOST_SILENCE:
                break
        first = ear.first_audio.get(ear.latest)
        cut = any(at < ended for at in ear.ends)
        wait = None if first is None or cut else (first - ended) * 1000
        return TurnResult(recording=recording.name, wait=wait, cut=cut, parts=ear.parts)


@dataclass(frozen=True, slots=True)
class Summary:
    """All turns of one run."""

    callers: int
    turns: list[TurnResult]

    @property
    def waits(self) -> list[float]:
        """The waits (ms) of the turns that were not cut."""
        return [turn.wait for turn in self.turns if turn.wait is not None]

    def row(self) -> str:
        """A row of the table."""
        cut = sum(turn.cut for turn in self.turns)
        lost = sum(turn.wait is None and not turn.cut for turn in self.turns)
        p50, p95 = np.percentile(self.waits, (50, 95))
        parts = " | ".join(f"{self._median(part):.0f}" for part in PARTS)
        cuts = f"{cut / len(self.turns):.1%}"
        return f"| {self.callers} | {len(self.turns)} | {p50:.0f} | {p95:.0f} | {cuts} | {lost} | {parts} |"

    def _median(self, part: str) -> float:
        values = [turn.parts[f"{part}_ms"] for turn in self.turns if f"{part}_ms" in turn.parts]
        return float(np.median(values)) if values else float("nan")


HEADER = (
    "| callers | turns | p50, ms | p95, ms | false cuts | no reply | "
    + " | ".join(f"{part} p50" for part in PARTS)
    + " |\n|"
    + "---|" * (6 + len(PARTS))
)


def choose(count: int) -> list[Recording]:
    """Complete utterances of 1 to 6 s, spread evenly over what there is."""
    fit = [r for r in recordings() if r.complete and r.transcript and 1.0 < r.seconds < 6.0]
    step = max(len(fit) / count, 1.0)
    return [fit[int(index * step)] for index in range(min(count, len(fit)))]


async def run(server: RunningServer, callers: int, turns_each: int) -> Summary:
    """Let so many callers talk at once, each through recordings of its own."""
    chosen = choose(callers * turns_each)
    everyone = [Caller(server, chosen[index::callers]) for index in range(callers)]
    await asyncio.gather(*(caller.run(delay=0.7 * index) for index, caller in enumerate(everyone)))
    return Summary(callers, [result for caller in everyone for result in caller.results])


def table(callers: Sequence[int] = (1, 4), turns_each: int = 24) -> str:
    """The benchmark's table, in Markdown."""
    rows = [HEADER]
    with running_server("embedded") as server:
        asyncio.run(run(server, 1, 2))  # the first turns of a process are slower, and nobody's
        rows += [asyncio.run(run(server, count, turns_each)).row() for count in callers]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
