"""Refuses new conversations while the ticks are late, before the audio of those that run breaks."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 64
"""Ticks that are looked back upon: 5 s."""

MOST_MISSES = 1
"""Deadlines missed in the window that are put down to chance, such as a slot's first step."""


class Admission:
    """Remembers the last ticks. `limit` is the 95th percentile of their lengths (ns) above which nobody is let in."""

    def __init__(self, *, limit: int = 70_000_000, window: int = WINDOW, most_misses: int = MOST_MISSES) -> None:
        self._limit = limit
        self._most_misses = most_misses
        self._ticks: deque[tuple[int, int]] = deque(maxlen=window)

    def record(self, length: int, missed: int) -> None:
        """A tick ended, `length` ns after it was due; `missed` deadlines had passed by then."""
        self._ticks.append((length, missed))

    @property
    def overloaded(self) -> bool:
        """Whether a conversation more would be too many."""
        if not self._ticks:
            return False
        lengths, misses = zip(*self._ticks, strict=True)
        return sum(misses) > self._most_misses or float(np.percentile(lengths, 95)) > self._limit
