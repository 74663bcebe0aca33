"""How long the embedded server takes to be ready, and the memory that it then holds and holds after four calls."""

from __future__ import annotations

import asyncio

import numpy as np

from benchmarks.server_process import running_server
from benchmarks.voice_to_voice import run

STARTS = 3
MEBIBYTE = 2**20


def table() -> str:
    """The benchmark's table, in Markdown."""
    seconds = []
    for _ in range(STARTS):
        with running_server("embedded") as server:
            seconds.append(server.seconds)
    with running_server("embedded") as server:
        at_rest = server.resident_bytes()
        asyncio.run(run(server, 4, 4))
        after = server.resident_bytes()
    return (
        "| start to ready, median of "
        f"{STARTS}, s | resident at rest, MiB | resident after four callers, MiB |\n|---|---|---|\n"
        f"| {np.median(seconds):.1f} | {at_rest / MEBIBYTE:.0f} | {after / MEBIBYTE:.0f} |"
    )


if __name__ == "__main__":
    print(table())
