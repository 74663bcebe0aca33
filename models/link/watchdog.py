"""Notices a worker that is alive and says nothing: frames have been sent to it, and no answer comes."""

from __future__ import annotations

from streaming.wire.moshi import FRAME_SAMPLES

FRAME_NS = 80_000_000


class Watchdog:
    """Counts one conversation's frames. Times are monotonic ns.

    A worker that listens answers each frame within a tick or two. `patience` is how many frames' time it may be silent
    while some are unanswered; nothing is expected of it while nothing is sent. Before it listens it takes in a prompt,
    for which it has `prepare` seconds.
    """

    def __init__(self, *, patience: float = 3.0, prepare: float = 120.0) -> None:
        self._patience = round(patience * FRAME_NS)
        self._prepare = round(prepare * 1e9)
        self._begun: int | None = None
        self._samples = 0
        self._answered = 0  # frames
        self._listening = False
        self._waiting_since: int | None = None

    def begins(self, now: int) -> None:
        """The worker has been given its prompt, or the first audio."""
        if self._begun is None:
            self._begun = now

    def sent(self, samples: int, now: int) -> None:
        """So many more samples have been sent."""
        self.begins(now)
        self._samples += samples
        if self._waiting_since is None:
            self._wait(now)

    def listens(self, now: int) -> None:
        """The worker has taken in the prompt."""
        self._listening = True
        self._wait(now)

    def answered(self, heard: int, now: int) -> None:
        """A frame has come, which was said when the worker had heard so many."""
        self._answered = heard
        self._wait(now)

    def due(self) -> int | None:
        """When the worker's silence becomes too long; None while nothing is expected of it."""
        if not self._listening:
            return None if self._begun is None else self._begun + self._prepare
        return None if self._waiting_since is None else self._waiting_since + self._patience

    def _wait(self, now: int) -> None:
        unanswered = self._samples // FRAME_SAMPLES > self._answered
        self._waiting_since = now if self._listening and unanswered else None
