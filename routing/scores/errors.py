"""Why scores are not taken, where it is not for a value of theirs (which is a plain PeerError)."""

from __future__ import annotations

from streaming.errors import PeerError


class UnsignedError(PeerError):
    """Nobody knows who sent it: the signature is missing, wrong, stale, for another, or was used before."""


class NotAValidatorError(PeerError):
    """Whoever sent it may not score."""


class NotListedError(PeerError):
    """A version that is not on the leaderboard."""


class TooManyScoresError(PeerError):
    """The validator has sent as much as it may in a while; try again in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, code="rate_limit_exceeded")
        self.retry_after = retry_after
