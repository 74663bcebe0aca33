"""`python -m server.replay FILE ...`: replay recorded conversations, and say where one differs from its record."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from streaming.trace import TraceError, replay


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the files; returns 0 where all of them came out as recorded, else 1."""
    parser = argparse.ArgumentParser(prog="python -m server.replay", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a trace, from MUSE_RECORD_DIR")
    differing = 0
    for path in parser.parse_args(arguments).files:
        try:
            with path.open(encoding="utf-8") as lines:
                result = replay(lines)
        except (TraceError, OSError, UnicodeDecodeError) as error:
            differing += 1
            print(f"{path}: {error}", file=sys.stderr)
        else:
            print(f"{path}: the same: {result.inputs} inputs, {result.outputs} outputs")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
