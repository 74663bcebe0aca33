"""A server in a process of its own, as a user would start it: for benchmarks and for tests of the whole."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0
"""Seconds that a server may take to be ready, on a machine that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """`url` is http://127.0.0.1:PORT, `seconds` how long it took to be ready."""

    url: str
    pid: int
    seconds: float

    @property
    def realtime(self) -> str:
        """The address of the Realtime endpoint."""
        return self.url.replace("http", "ws", 1) + "/v1/realtime"

    def resident_bytes(self) -> int:
        """Memory resident now, of the server and the processes that it has started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_resident(pid) for pid in [self.pid, *map(int, children)])


@contextmanager
def running_server(
    engine: str, settings: Mapping[str, str] | None = None, *, module: Sequence[str] = ("server",)
) -> Iterator[RunningServer]:
    """`python -m server` on a free port, with these `MUSE_*` settings and no others; stopped on the way out.

    Its database is its own: what another server has left in the usual one, such as a rollout, does not matter here.
    `module` is run in its place, with what comes after its name before the server's own options. Raises RuntimeError
    with what the server said, where it does not get ready.
    """
    command = [sys.executable, "-m", *module, "--engine", engine, "--port", "0"]
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(directory, settings or {}), stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        if process.stderr is None:
            raise RuntimeError("the server has no stderr")
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_forward, args=(process.stderr, lines))
        reader.start()
        try:
            url = _address(lines)
            yield RunningServer(url=url, pid=process.pid, seconds=time.monotonic() - began)
        finally:
            process.terminate()
            reader.join()


def _environment(directory: str, settings: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    return others | {"MUSE_LOG_JSON": "1", "MUSE_ROUTING_DATABASE": f"sqlite:///{directory}/muse.db", **settings}


def _forward(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _address(lines: queue.Queue[str | None]) -> str:
    seen = []
    while (line := lines.get(timeout=PATIENCE)) is not None:
        seen.append(line)
        if line.startswith("{") and "url" in (record := json.loads(line)):
            return str(record["url"])
    raise RuntimeError(f"the server did not start: {''.join(seen)}")


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
