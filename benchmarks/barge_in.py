"""Barge-in on the embedded server: when speech over a reply ducks it, and when it stops it.

A caller asks for a long reply and speaks a recording over it. The server tells the caller when to duck and when the
speech is taken for an interruption; all times are the caller's. The last audio comes before the decision, by up to a
frame: nothing is sent after it. What speaks over the reply is words, so every one of them should stop it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.recordings import SAMPLE_RATE, Recording
from benchmarks.server_process import RunningServer, running_server
from benchmarks.voice_to_voice import choose
from clients.realtime import RealtimeClient
from streaming.audio import resample
from streaming.client_events import CreateItem, CreateResponse
from streaming.engine import Samples
from streaming.items import InputText, Message
from streaming.server_events import AudioDelta, BargeInProgress, ResponseDone

INTERRUPTIONS = 12
CHUNK = 480
_STORY = "Tell me a long story about a lighthouse keeper, his dog and the sea."


class Moments:
    """The moments of one interruption, in monotonic seconds; `spoke` is when the recording's first sound was sent."""

    def __init__(self) -> None:
        self.spoke = float("nan")
        self.onset = float("nan")
        self.decided = float("nan")
        self.last_audio = float("nan")
        self.heard = asyncio.Event()
        self.done = asyncio.Event()

    async def listen(self, client: RealtimeClient) -> None:
        """Follow the server's events until the reply has ended."""
        async for event in client:
            now = time.monotonic()
            match event:
                case AudioDelta():
                    self.last_audio = now
                    self.heard.set()
                case BargeInProgress(phase="onset"):
                    self.onset = now
                case BargeInProgress(phase="decided"):
                    self.decided = now
                case ResponseDone():
                    self.done.set()
                    return


async def interrupt(server: RunningServer, recording: Recording) -> Moments:
    """Speak a recording over a reply that has been heard for a second."""
    moments = Moments()
    audio = resample(recording.samples, SAMPLE_RATE, 24_000)
    first_sound = int(np.flatnonzero(np.abs(audio) > 0.05)[0])
    async with RealtimeClient.connect(server.realtime) as client:
        item = Message(role="user", content=(InputText(text=_STORY),))
        await client.send(CreateItem(item=item))
        await client.send(CreateResponse())
        listening = asyncio.create_task(moments.listen(client))
        await moments.heard.wait()
        await _stream(client, np.zeros(24_000, np.float32), moments)
        start = time.monotonic()
        moments.spoke = start + first_sound / 24_000
        await _stream(client, audio, moments)
        await _stream(client, np.zeros(24_000, np.float32), moments)
        await asyncio.gather(listening, return_exceptions=True)
    return moments


async def _stream(client: RealtimeClient, audio: Samples, moments: Moments) -> None:
    start = time.monotonic()
    for position in range(CHUNK, len(audio) + 1, CHUNK):
        if moments.done.is_set():
            return
        await asyncio.sleep(start + position / 24_000 - time.monotonic())
        await client.append(audio[position - CHUNK : position])


async def measure(server: RunningServer, chosen: Sequence[Recording]) -> list[Moments]:
    """One interruption for each recording."""
    return [await interrupt(server, recording) for recording in chosen]


def table() -> str:
    """The benchmark's table, in Markdown."""
    chosen = [recording for recording in choose(60) if recording.seconds > 1.5][:INTERRUPTIONS]
    with running_server("embedded") as server:
        moments = asyncio.run(measure(server, chosen))
    stopped = [m for m in moments if not np.isnan(m.decided)]
    columns = {
        "first sound to ducking": [m.onset - m.spoke for m in stopped],
        "ducking to decision": [m.decided - m.onset for m in stopped],
        "decision to last audio": [m.last_audio - m.decided for m in stopped],
    }
    rows = [
        f"| {name} | {np.median(values) * 1000:.0f} | {np.max(values) * 1000:.0f} |" for name, values in columns.items()
    ]
    head = f"| barge-in, {len(stopped)} of {len(moments)} stopped the reply | median, ms | longest, ms |\n|---|---|---|"
    return "\n".join([head, *rows])


if __name__ == "__main__":
    print(table())
