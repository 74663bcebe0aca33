"""`python -m routing snapshot`: the leaderboard, written to a file that can be served from."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from routing import snapshot_file
from routing.commands.source_options import add_source_options, settings_of
from routing.settings import RoutingSettings
from routing.sources import read_once
from streaming.errors import EngineError

HELP = "Write the leaderboard to a file, to be served from with MUSE_ROUTING_SOURCE=file."


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `routing.cli.Command`."""
    add_source_options(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write; an older one is replaced")


def run(options: argparse.Namespace) -> int:
    """See `routing.cli.Command`."""
    return asyncio.run(_run(settings_of(options), options.out, now=time.time()))


async def _run(settings: RoutingSettings, out: Path, *, now: float) -> int:
    state = await read_once(settings, now=now)
    if state.snapshot is None or state.failures:
        raise EngineError(f"nothing is written: {state.problem}")
    if state.problem is not None:
        print(f"warning: {state.problem}", file=sys.stderr)
    snapshot = state.snapshot
    snapshot_file.write(out, snapshot)
    print(
        f"{out}: block {snapshot.block}; models: {len(snapshot.entries)}, validators: {len(snapshot.validators)},"
        f" dropped: {len(snapshot.dropped)}"
    )
    return 0
