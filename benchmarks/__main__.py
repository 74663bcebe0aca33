"""`python -m benchmarks [NAME ...]`: measure what docs/benchmarks.md shows, and print its tables."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module
from importlib.util import find_spec

GATEWAY = (
    "gateway",
    "voice_to_voice",
    "barge_in",
    "endpointing",
    "start_up",
    "worker",
    "routing",
    "scoreboard",
    "leaderboard",
)
WORKER = ("mimi", "moshi")
"""Benchmarks of models on torch; they run in the worker's environment, and the others in the gateway's."""


def main() -> None:
    """Run the benchmarks that are named, or all of this environment."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(GATEWAY + WORKER)}")
    has_torch = find_spec("torch") is not None
    names: list[str] = parser.parse_args().names or list(WORKER if has_torch else GATEWAY)
    if unknown := set(names) - {*GATEWAY, *WORKER}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if not has_torch and (elsewhere := set(names) & set(WORKER)):
        parser.error(f"run in the worker's environment (make worker-moshi): {', '.join(sorted(elsewhere))}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for name in names:
        table: str = import_module(f"benchmarks.{name}").table()
        print(f"## {name}\n\n{table}\n", flush=True)


if __name__ == "__main__":
    main()
