"""`python -m server` with the embedded engine, for as long as a test needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 300.0
_URL = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """The address of a server on a free port; its log goes to `log`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    command = [sys.executable, "-m", "server", "--port", "0"]
    with log.open("w") as sink, subprocess.Popen(command, cwd=ROOT, env=environment, stderr=sink) as process:
        try:
            yield _address(process, log)
        finally:
            process.terminate()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = _URL.search(log.read_text())
        if found:
            return found.group()
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()}")
