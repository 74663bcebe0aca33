"""A second model that hears a conversation which nobody hears it answer: how a model is tried before it is trusted.

A shadow is a conversation like any other, with a session of its own: so it is measured as the others are, and may be
turn-based beside a duplex model or the other way round. Its client is the caller, whose events it is handed on. It can
do the caller no harm: what it says goes nowhere, and one that fails, or falls behind, is let go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from server.driver import Connection, ConnectionOverError
from streaming.client_events import AppendAudio, ClientEvent
from streaming.server_events import ServerEvent

MOST_WAITING = 4 * 2**20
"""Bytes of events that may wait for a shadow, before it is let go."""

_OTHER_EVENT = 256 * 1024  # what an event that is no audio counts for
_LEAST = 256


class Shadow:
    """The `server.driver.Connection` of a conversation that nobody hears.

    What the caller sends is held, within bounds, until it is read.
    """

    def __init__(self) -> None:
        self._events: deque[ClientEvent] = deque()
        self._waiting = 0
        self._readable = asyncio.Event()
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it hears no more."""
        return self._over

    def hand_on(self, event: ClientEvent) -> None:
        """The caller sent this. Never blocks."""
        if self._over:
            return
        self._waiting += _size(event)
        self._events.append(event)
        if self._waiting > MOST_WAITING:
            self.stop()
        self._readable.set()

    def stop(self) -> None:
        """The caller has gone, or the shadow is not wanted."""
        self._over = True
        self._events.clear()
        self._readable.set()

    async def receive(self) -> ClientEvent:
        """See `Connection.receive`."""
        while not self._events:
            if self._over:
                raise ConnectionOverError
            self._readable.clear()
            await self._readable.wait()
        event = self._events.popleft()
        self._waiting -= _size(event)
        return event

    def send(self, event: ServerEvent) -> None:
        """Nobody hears it."""


class Tee:
    """A caller's connection whose events a shadow hears too, for as long as it is `wanted`."""

    def __init__(self, connection: Connection, shadow: Shadow, *, wanted: Callable[[], bool]) -> None:
        self.shadow = shadow
        self._connection = connection
        self._wanted = wanted

    async def receive(self) -> ClientEvent:
        """See `Connection.receive`."""
        event = await self._connection.receive()
        if self._wanted():
            self.shadow.hand_on(event)
        else:
            self.shadow.stop()
        return event

    def send(self, event: ServerEvent) -> None:
        """See `Connection.send`."""
        self._connection.send(event)


def _size(event: ClientEvent) -> int:
    return max(_LEAST, len(event.audio)) if isinstance(event, AppendAudio) else _OTHER_EVENT
