"""`python -m benchmarks [NAME ...]`: measure what docs/benchmarks.md shows, and print its tables."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable

from benchmarks import barge_in, endpointing, gateway, start_up, voice_to_voice

BENCHMARKS: dict[str, Callable[[], str]] = {
    "gateway": gateway.table,
    "voice_to_voice": voice_to_voice.table,
    "barge_in": barge_in.table,
    "endpointing": endpointing.table,
    "start_up": start_up.table,
}


def main() -> None:
    """Run the benchmarks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}")
    names: list[str] = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for name in names:
        print(f"## {name}\n\n{BENCHMARKS[name]()}\n", flush=True)


if __name__ == "__main__":
    main()
