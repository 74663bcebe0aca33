from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[2]
START = 60.0
"""Seconds that the server may take to be ready."""


@pytest.fixture(scope="session")
def recording() -> Path:
    """A person saying "ten of clubs"; 16-bit mono at 16 kHz."""
    return ROOT / ".testdata" / "pocketsphinx" / "cards" / "001.wav"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address, http://127.0.0.1:PORT, of `python -m server` with the scripted engine and the real detectors."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    environment["MUSE_LOG_JSON"] = "1"
    command = [sys.executable, "-m", "server", "--engine", "scripted", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_forward, args=(process.stderr, lines))
        reader.start()
        try:
            yield _address(lines)
        finally:
            process.terminate()
            reader.join()


def _forward(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _address(lines: queue.Queue[str | None]) -> str:
    seen = []
    while (line := lines.get(timeout=START)) is not None:
        seen.append(line)
        if line.startswith("{") and "url" in (record := json.loads(line)):
            return str(record["url"])
    raise RuntimeError(f"the server did not start: {''.join(seen)}")
