"""A circuit breaker: who has failed several times in a row is left alone until a probe has found it well."""

from __future__ import annotations

from streaming.audio import NS


class Breaker:
    """Opens at the `failures`-th failure in a row. `cooldown`, in seconds, lies between probes; times are ns.

    After a probe that succeeded it is half open: the next request decides whether it closes or opens again.
    """

    def __init__(self, *, failures: int, cooldown: float) -> None:
        self._most = failures
        self._cooldown = round(cooldown * NS)
        self._failures = 0
        self._probe_at = 0

    @property
    def open(self) -> bool:
        """Whether no request should be made."""
        return self._failures >= self._most

    def probe_due(self, *, now: int) -> bool:
        """Whether it is open, and time to look again."""
        return self.open and now >= self._probe_at

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures = 0

    def failed(self, *, now: int) -> None:
        """A request, or a probe, was not."""
        self._failures += 1
        self._probe_at = now + self._cooldown

    def probed(self) -> None:
        """A probe was answered."""
        self._failures = min(self._failures, self._most - 1)
