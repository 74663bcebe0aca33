"""How long to wait before trying again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds: `first` after the first failure, doubled after each one more, `most` at most."""

    first: float
    most: float

    def after(self, failures: int) -> int:
        """The wait, in ns, after so many failures in a row (1 or more)."""
        doublings = min(failures - 1, 32)
        return round(min(self.first * 2.0**doublings, self.most) * 1e9)
