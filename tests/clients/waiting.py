"""Waiting for what a test has set off. Only a hang reaches the limits, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds."""


def until(holds: Callable[[], object]) -> None:
    """Come back once it holds: the other threads and the browser signal nothing."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
