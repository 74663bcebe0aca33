"""Sending on a WebSocket from where nothing may wait: the tick loop, and a session that is given a command."""

from __future__ import annotations

from collections.abc import Callable

from websockets.asyncio.connection import Connection, broadcast


class Line:
    """A connection's outgoing side. Its bounded queue is the transport's: `on_full` is called when it holds more than
    `limit` bytes, and no more is sent.
    """

    def __init__(self, connection: Connection, *, limit: int, on_full: Callable[[], None]) -> None:
        self._connection = connection
        self._limit = limit
        self._on_full = on_full
        self._full = False

    def send(self, data: bytes) -> None:
        """Send, or drop where the connection is full or closed. Never blocks."""
        if self._full:
            return
        if self._connection.transport.get_write_buffer_size() > self._limit:
            self._full = True
            self._on_full()
            return
        broadcast([self._connection], data)
