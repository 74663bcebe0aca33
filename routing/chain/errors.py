"""Why the chain brought no leaderboard."""

from __future__ import annotations

from streaming.errors import EngineError


class ChainError(EngineError):
    """The chain could not be read, or what it says cannot be used; the message is safe to show."""


class ChainUnavailableError(ChainError):
    """The chain could not be read: unreachable, too slow, or its answer makes no sense."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="chain_unavailable")


class WrongSubnetError(ChainError):
    """The subnet is not, or no longer, the one whose models are to be served."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="wrong_subnet")
