"""A conversation's events on their way to its reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from streaming.engine import EngineEvent


class EventQueue:
    """Holds at most `limit` events: a writer waits while it is full, so that a reader who pauses slows the work.

    Events that have not been read can be taken back: a cancelled reply leaves nothing behind.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[EngineEvent] = deque()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether a writer must wait."""
        return not self._writable.is_set()

    async def wait_for_room(self) -> None:
        """Returns when an event can be put; at once when the queue is closed."""
        while len(self._events) >= self._limit and not self._closed:
            await self._writable.wait()

    def put(self, event: EngineEvent) -> None:
        """Append. Writers of many events wait for room first; a single answer to a command need not."""
        if not self._closed:
            self._events.append(event)
            self._update()

    def take_back(self, unwanted: Callable[[EngineEvent], bool]) -> None:
        """Drop the unread events for which `unwanted` is true."""
        self._events = deque(event for event in self._events if not unwanted(event))
        self._update()

    def close(self) -> None:
        """Nothing more is taken; the reader gets what is left, and then the end."""
        self._closed = True
        self._update()

    async def read(self) -> AsyncIterator[EngineEvent]:
        """The events in order, until the queue is closed and empty. One reader at a time."""
        while True:
            while not self._events:
                if self._closed:
                    return
                await self._readable.wait()
            event = self._events.popleft()
            self._update()
            yield event

    def _update(self) -> None:
        _set(self._readable, bool(self._events) or self._closed)
        _set(self._writable, len(self._events) < self._limit or self._closed)


def _set(flag: asyncio.Event, value: bool) -> None:
    if value:
        flag.set()
    else:
        flag.clear()
