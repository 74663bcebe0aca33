"""A value that costs something, asked for more often than it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from streaming.errors import EngineError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Cached(Generic[T]):
    """Computes a value for one caller at a time, and keeps it for `seconds`. `clock` is monotonic, in seconds.

    What cannot be had leaves the last value in place, `first` where there is none, until it is next due: what rests on
    it is shown beside things that are known, and must not take them away.
    """

    def __init__(
        self,
        compute: Callable[[], Awaitable[T]],
        *,
        first: T,
        seconds: float,
        what: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._value = first
        self._seconds = seconds
        self._what = what
        self._clock = clock
        self._due: float | None = None
        self._changes = 0
        self._computing = asyncio.Lock()

    async def get(self) -> T:
        """The value, at most `seconds` old unless it cannot be had."""
        if self._fresh():
            return self._value
        async with self._computing:
            if not self._fresh():
                await self._refresh()
        return self._value

    def expire(self) -> None:
        """What the value rests on has changed: the next `get` computes it anew."""
        self._due = None
        self._changes += 1

    def _fresh(self) -> bool:
        return self._due is not None and self._clock() < self._due

    async def _refresh(self) -> None:
        changes = self._changes
        try:
            self._value = await self._compute()
        except EngineError as error:
            _log.warning("cannot refresh %s: %s", self._what, error.message)
        if changes == self._changes:  # else what was computed is of before the change
            self._due = self._clock() + self._seconds
