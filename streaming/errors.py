"""Muse's errors: one tree, split by whose fault it was.

`PeerError` is what a client did wrong: it is told, by name, and its session goes on. `EngineError` is
what a model did wrong: the response fails and the session goes on. Anything else is a defect of ours.
"""

from __future__ import annotations


class MuseError(Exception):
    """Anything that Muse raises on purpose."""


class PeerError(MuseError):
    """The client sent something that cannot be taken. Nothing has changed because of it.

    `code` is a stable machine-readable name, `param` the path of the offending field (such as
    `session.audio.input.format.rate`), `message` says what was wrong and what is expected, and `event_id` names the
    client's event where it gave an id.
    """

    def __init__(self, message: str, *, code: str, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.event_id = event_id


class AudioFormatError(PeerError):
    """Bytes that are not audio in the stated format."""

    def __init__(self, message: str, *, param: str | None = "audio") -> None:
        super().__init__(message, code="invalid_audio", param=param)


class EngineError(MuseError):
    """A model failed; `code` is stable, the message is safe to show to a client.

    `detail` is for the log and its operator alone: what a library says, which may name hosts. `str()` gives both.
    """

    def __init__(self, message: str, *, code: str = "engine_error", detail: str | None = None) -> None:
        super().__init__(message if detail is None else f"{message}: {detail}")
        self.message = message
        self.code = code
        self.detail = detail


class EngineBusyError(EngineError):
    """The engine holds as many sessions as it can; try again in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message, code="engine_busy")
        self.retry_after = retry_after


class EngineChangedError(EngineError):
    """Where the engine stood there is another one now; ask anew what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="engine_changed")
