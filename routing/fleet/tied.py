"""Runs a command that is killed by the kernel when the process that asked for it is gone: `tied.py PID COMMAND...`.

It becomes the command: same process id, same pipes, but a session of its own, so that Ctrl-C at the gateway's terminal
is the gateway's to act upon, whose calls end before their workers do. Run by its path (`python -I -S`), so that it
starts at once and needs nothing of this package. The kernel (Linux's; elsewhere the command just runs) goes by the
thread that asked, which is the event loop's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_REFUSED = 2


def main(parent: int, command: list[str]) -> None:
    """Never returns. Exits with status 2 where there is no such command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("worker: its parent has gone")  # before it could be asked for
    os.setsid()
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell is what is wanted)
    except OSError as error:
        sys.stderr.write(f"worker: cannot run {command[0]}: {error.strerror}\n")
        sys.exit(_REFUSED)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
