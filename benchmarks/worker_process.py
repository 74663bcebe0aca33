"""A worker in a process of its own, as a user would start it: for benchmarks and for tests of the whole."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.server_process import PATIENCE, ROOT

_READY = re.compile(r"ready: .*url=(\S+)")


@dataclass(slots=True)
class RunningWorker:
    """`url` is ws://127.0.0.1:PORT; `log` the lines that it has written."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)


@contextmanager
def running_worker(*options: str, python: str = sys.executable, command: Sequence[str] = ()) -> Iterator[RunningWorker]:
    """`python -m models worker` with these options, or a command in its place, on a free port; stopped on the way out.

    Raises RuntimeError with what the worker said, where it does not get ready.
    """
    command = command or [python, "-m", "models", "worker", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        worker, ready = RunningWorker(process), threading.Event()

        def read() -> None:
            for line in process.stderr or ():
                worker.log.append(line)
                if found := _READY.search(line):
                    worker.url = found[1]
                    ready.set()
            ready.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            ready.wait(PATIENCE)
            if not worker.url:
                raise RuntimeError(f"the worker did not start: {''.join(worker.log)}")
            yield worker
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()
