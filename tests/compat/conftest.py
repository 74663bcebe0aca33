from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server_process import running_server
from tests.prerequisites import RECORDINGS, require_recordings


@pytest.fixture(scope="session")
def recording() -> Path:
    """A person saying "ten of clubs"; 16-bit mono at 16 kHz."""
    require_recordings()
    return RECORDINGS / "sphinx-001.wav"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address, http://127.0.0.1:PORT, of `python -m server` with the scripted engine and the real detectors."""
    with running_server("scripted") as server:
        yield server.url


@pytest.fixture(scope="session")
def talkative() -> Iterator[str]:
    """The address of one whose first answer in each call is long."""
    with running_server("scripted", module=("tests.compat.server_that_says_much",)) as server:
        yield server.url
