"""What the server itself refuses, before a session exists."""

from __future__ import annotations

from streaming.errors import MuseError


class Refused(MuseError):  # noqa: N818 - an answer to the caller, not a failure
    """A request that is turned away with an HTTP `status`; `code` is stable and `message` safe to show.

    `param` names the field that is wrong; `retry_after` is in seconds, for refusals that pass.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after


class StartupError(MuseError):
    """The server cannot start; the message is the one line that the operator sees."""
