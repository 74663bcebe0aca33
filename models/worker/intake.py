"""One conversation's jitter buffer: what a client sends, cut into frames, one of which each tick takes.

Networks hold audio back and then hand it over at once, and a client's clock runs a little fast. Either leaves frames
standing in the queue, and every one of them delays each answer of the rest of the call by 80 ms. So frames that nobody
has needed for a while are dropped: quiet ones where there are some, any after a longer while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from streaming.audio import Reframer
from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.wire.moshi import FRAME_SAMPLES

MOST_FRAMES = 50
"""Whole frames that may wait: 4 s."""

WINDOW = 25
"""Ticks (2 s) through which frames must have stood in the queue before they are taken for too many."""

_QUIET = 0.01
"""Root mean square below which a frame is silence: -40 dBFS."""


@dataclass(frozen=True, slots=True)
class HeardFrame:
    """A frame for the model, shape (FRAME_SAMPLES,), and when it was whole (monotonic ns)."""

    audio: Samples
    at: int


class Intake:
    """Takes audio of any length; gives frames in order. Nothing is lost but what `dropped` counts.

    Until `listen` only the newest frame is kept: what was said to a model that was not there yet is stale.
    """

    def __init__(self, *, most: int = MOST_FRAMES, window: int = WINDOW) -> None:
        self._most = most
        self._window = window
        self._cut = Reframer(FRAME_SAMPLES)
        self._frames: deque[HeardFrame] = deque()
        self._listening = False
        self._ticks = 0  # of the running window
        self._least = most  # frames that stood there through all of it
        self._excess = 0  # frames to be rid of
        self.taken = 0
        self.dropped = 0

    @property
    def depth(self) -> int:
        """Whole frames that wait."""
        return len(self._frames)

    def put(self, audio: Samples, now: int) -> None:
        """The next of the audio. Raises PeerError (`too_much_audio`) when too much waits; the buffer is as it was."""
        if not self._listening:
            self._frames.extend(HeardFrame(frame, now) for frame in self._cut.push(audio))
            while len(self._frames) > 1:
                self._drop()
            return
        if len(self._frames) + (self._cut.held + len(audio)) // FRAME_SAMPLES > self._most:
            raise PeerError(
                f"more than {self._most * 0.08:g} s of audio is waiting; send it in real time", code="too_much_audio"
            )
        self._frames.extend(HeardFrame(frame, now) for frame in self._cut.push(audio))

    def listen(self) -> None:
        """The model is ready to hear."""
        self._listening = True

    def take(self) -> HeardFrame | None:
        """The frame of this tick; None where none has come. To be called once a tick."""
        if not self._listening:
            return None
        self._trim()
        frame = self._frames.popleft() if self._frames else None
        self.taken += frame is not None
        self._watch()
        return frame

    def _watch(self) -> None:
        """At each window's end: how many frames were never needed in it?"""
        self._least = min(self._least, len(self._frames))
        self._ticks += 1
        if self._ticks == self._window:
            if self._excess and self._least:
                # Two windows long there was no silence to drop.
                self._drop()
                self._least -= 1
            self._excess = self._least
            self._ticks, self._least = 0, self._most

    def _trim(self) -> None:
        while self._excess and len(self._frames) > 1 and _is_quiet(self._frames[0].audio):
            self._drop()
            self._excess -= 1

    def _drop(self) -> None:
        self._frames.popleft()
        self.dropped += 1


def _is_quiet(audio: Samples) -> bool:
    return float(np.dot(audio, audio)) < _QUIET**2 * len(audio)
