"""Why weights cannot be had: refused for what they are, or not to be reached now."""

from __future__ import annotations

from streaming.errors import EngineError


class WeightsError(EngineError):
    """Weights cannot be used. `file` is the file (or host, or reference) at fault, `reason` what was wrong with it."""

    def __init__(self, file: str, reason: str, *, code: str) -> None:
        super().__init__(f"{printable(file)}: {reason}", code=code)
        self.file = file
        self.reason = reason


class WeightsRefusedError(WeightsError):
    """The weights break a rule; asking again gives the same answer."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason, code="weights_refused")


class WeightsUnavailableError(WeightsError):
    """The weights cannot be had now: absent, cut off or too slow. What has come is kept for the next attempt."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason, code="weights_unavailable")


def printable(text: str, limit: int = 120) -> str:
    """A name that a stranger chose, fit for a log line: control characters escaped, not too long."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= limit else f"{shown[:limit]}..."
