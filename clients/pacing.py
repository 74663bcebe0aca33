"""Speaking at the pace of speech."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np

from clients.audio_files import speech_end
from streaming.audio import NS
from streaming.engine import Samples

FRAME = 0.04
"""Seconds of audio in one message when speaking in real time."""

Append = Callable[[Samples], Awaitable[None]]
"""Sends samples."""


async def speak(audio: Samples, append: Append, *, rate: int, realtime: bool) -> int:
    """Give `append` the audio in frames, as fast as a microphone would or at once.

    Returns the monotonic ns at which the last of its speech was sent.
    """
    size = int(rate * FRAME)
    last_word = speech_end(audio, rate=rate)
    ended = start = time.monotonic_ns()
    for position in range(0, len(audio), size):
        if realtime:  # a frame is there to be sent when its last sample has been spoken
            await sleep_until(start + (position + size) * NS // rate)
        await append(audio[position : position + size])
        if position < last_word:
            ended = time.monotonic_ns()
    return ended


async def keep_silent(append: Append, *, rate: int) -> None:
    """Give `append` silence in real time until cancelled, as a microphone in a quiet room does."""
    silence: Samples = np.zeros(int(rate * FRAME), np.float32)
    due = time.monotonic_ns()
    while True:
        due += int(FRAME * NS)
        await sleep_until(due)
        await append(silence)


async def sleep_until(due: int) -> None:
    """Until monotonic ns `due`."""
    await asyncio.sleep(max(0, due - time.monotonic_ns()) / NS)
