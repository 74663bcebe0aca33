"""How a conversation on the worker's wire ends: an error in words, and a WebSocket code."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.errors import PeerError
from streaming.wire.moshi import WireError

GONE = 1001
UNSUPPORTED = 1003
UNREADABLE = 1007
POLICY = 1008
FAILED = 1011
RESTARTING = 1012
TRY_LATER = 1013

_UNREADABLE_CODES = frozenset({"empty_message", "invalid_message", "invalid_audio"})


@dataclass(frozen=True, slots=True)
class Ending:
    """`code` is the WebSocket's, `error` is sent before it."""

    code: int
    error: WireError

    @classmethod
    def of(cls, error: PeerError) -> Ending:
        """What a client did wrong: 1007 for what cannot be read, else 1008."""
        code = UNREADABLE if error.code in _UNREADABLE_CODES else POLICY
        return cls(code, WireError(code=error.code, message=error.message))


TEXT_MESSAGE = Ending(UNSUPPORTED, WireError(code="text_message", message="expected binary messages, got text"))
DRAINING = Ending(RESTARTING, WireError(code="draining", message="the worker is stopping"))
SLOW_READER = Ending(TRY_LATER, WireError(code="slow_reader", message="the client does not read what it is sent"))


def silent(seconds: float) -> Ending:
    """The client has sent nothing for so long."""
    return Ending(GONE, WireError(code="silent", message=f"nothing was heard for {seconds:g} s"))


def failed(message: str) -> Ending:
    """The model, or the worker, could not go on."""
    return Ending(FAILED, WireError(code="engine_failed", message=message))
