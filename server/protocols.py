"""uvicorn's connection protocols, with bounds on what a hostile or dead peer can cost.

uvicorn trusts its peers in some ways that a server of long-lived conversations cannot afford: a request may trickle in
for ever, any number of pings is answered, a message may come in any number of empty fragments, and a connection is only
closed once its peer has read all that was written to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

REQUEST_SECONDS = 10.0
"""A request's head arrives within this."""

REQUEST_BYTES = 64 * 1024
"""A request's head is at most this."""

LINGER_SECONDS = 5.0
"""How long a connection that is over may take to read what was written to it."""

PINGS_PER_SECOND = 10.0
PING_BURST = 50.0
"""Control frames (pings and pongs) that a client may send."""

MAX_FRAGMENTS = 2**16
"""Frames in one message."""

PARSE_BYTES = 2 * 1024
"""Parsed without a pause: 2 ms of the smallest frames. A whole read, 256 KiB, would be 150 ms in which no neighbour is
heard."""


class Allowance:
    """A token bucket: `rate` a second, `burst` at once. Times are the loop's, in seconds."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Use one up; False when there is none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads arrive in bounded time and size."""

    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is expected."""
        self._head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless the head has grown too large."""
        if self._head_deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > REQUEST_BYTES:
                self._head_complete()
                self.send_400_response("Request head too large.")
                return
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        """The head is complete; the WebSocket protocol takes over."""
        self._head_complete()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A request's head is complete."""
        self._head_complete()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_bytes = 0
            self._head_deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _head_complete(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class PoliteServerProtocol(ServerProtocol):
    """Takes a close in the middle of a fragmented message for the goodbye that it is (RFC 6455, 5.4 and 5.5.1)."""

    def recv_frame(self, frame: Frame) -> None:
        """Handle one frame."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket on which control frames, fragments and closing are bounded. There is no compression."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = PoliteServerProtocol(max_size=self.config.ws_max_size, logger=self.logger)
        self._controls = Allowance(PINGS_PER_SECOND, PING_BURST)
        self._unparsed = bytearray()
        self._lingering: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing left to let go of."""
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a little at a time: the rest waits, with reading paused, until the application has taken that."""
        self._unparsed += data
        self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        """The next event for the application."""
        message = await super().receive()
        self._parse()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a close does not wait for a peer that reads nothing."""
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self._parse()
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # by a refusal, which uvicorn would log as an application's defect

    async def run_asgi(self) -> None:
        """Run the application, then let go of the connection, whatever its peer does."""
        try:
            await super().run_asgi()
        finally:
            if not self.disconnected:
                self._lingering = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """The peer is gone: there is nobody to wait for."""
        super().keepalive_timeout()
        self.transport.abort()

    def handle_parser_exception(self) -> None:
        """Close with the code of what was wrong; before the upgrade is answered there is no such thing."""
        if self.conn.close_sent is None:
            self.transport.abort()
        else:
            super().handle_parser_exception()

    def handle_ping(self) -> None:
        """Answer a ping, within reason."""
        if self._control_allowed():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Note a pong, within reason."""
        if self._control_allowed():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """A fragment. Empty ones cost memory too, and count for nothing in the size limit."""
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(1009, "too many fragments")

    def _parse(self) -> None:
        while self._unparsed and (self.close_sent or self.queue.empty()) and not self.transport.is_closing():
            part = bytes(self._unparsed[:PARSE_BYTES])
            del self._unparsed[:PARSE_BYTES]
            super().data_received(part)

    def _control_allowed(self) -> bool:
        if self._controls.take(self.loop.time()):
            return True
        self._fail(1008, "too many control frames")
        return False

    def _fail(self, code: int, reason: str) -> None:
        if self.close_sent:
            return
        self.conn.fail(code, reason)
        self.frames = []
        self.handle_parser_exception()
