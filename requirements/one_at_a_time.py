"""`python requirements/one_at_a_time.py COMMAND ...`: run a command once no other such runs in this directory.

Two `make`s at once would install into one environment, and each break what the other has half done.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys


def main(command: list[str]) -> int:
    """The command's exit status."""
    directory = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("another make is setting up here; waiting for it\n")
        fcntl.flock(directory, fcntl.LOCK_EX)
    except OSError:
        pass  # a filesystem without locks
    # The command is not given the lock, since a service that it starts would keep it. So this process outlives it.
    with subprocess.Popen(command) as process:  # noqa: S603
        signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends the command its own
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
