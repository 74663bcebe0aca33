"""Rings when a watchdog's time has come, in asyncio's time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from models.link.watchdog import FRAME_NS, Watchdog


class Alarm:
    """Calls `ring` once the watchdog's silence is too long. To be armed whenever its state has changed.

    `paused` tells that nobody reads what the worker sends: it is not the worker that is slow then.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        *,
        clock: Callable[[], int],
        paused: Callable[[], bool],
        ring: Callable[[], None],
    ) -> None:
        self._watchdog = watchdog
        self._clock = clock
        self._paused = paused
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0
        self._off = False

    def arm(self) -> None:
        """Set the timer, unless it is set and goes off soon enough: it looks at the watchdog anew then."""
        due = self._watchdog.due()
        if due is None or self._off or (self._timer is not None and self._set_for <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._set(due)

    def turn_off(self) -> None:
        """Never ring again."""
        self._off = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: int) -> None:
        wait = max(0, due - self._clock()) / 1e9
        self._set_for = due
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        self._timer = None
        due, now = self._watchdog.due(), self._clock()
        if due is None or self._paused():
            return
        if due > now:
            self._set(due)
        elif now - self._set_for > FRAME_NS // 2:
            # This process was held up itself: what has come meanwhile is read before the worker is judged.
            self._set(now + FRAME_NS)
        else:
            self._ring()
