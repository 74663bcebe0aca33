"""Refuses new conversations while the ticks are late, before the audio of those that run breaks."""

from __future__ import annotations

from collections import deque

WINDOW = 64
"""Ticks that are looked back upon: 5 s."""

MOST_LATE = WINDOW // 20
"""Late ticks among them that are put down to chance: were there more, their 95th percentile would be late."""


class Admission:
    """Remembers the last ticks. One that ends later than `limit` (ns) after it was due is late.

    The limit is below the period, so that a missed deadline is late too, and a model that comes near it is not given
    a conversation more.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._late: deque[bool] = deque(maxlen=WINDOW)

    def record(self, length: int) -> None:
        """A tick ended, `length` ns after it was due."""
        self._late.append(length > self._limit)

    @property
    def overloaded(self) -> bool:
        """Whether a conversation more would be too many."""
        return sum(self._late) > MOST_LATE
