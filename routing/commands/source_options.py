"""The options of all commands that read the leaderboard. What they leave out, the environment says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from routing.settings import RoutingSettings, read_settings


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Where the leaderboard is read from."""
    parser.add_argument("--source", choices=("chain", "file"), help="instead of MUSE_ROUTING_SOURCE")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="instead of MUSE_ROUTING_SNAPSHOT; means a file")


def settings_of(options: argparse.Namespace) -> RoutingSettings:
    """The environment's settings under these options. Raises EngineError."""
    changes: dict[str, Any] = {}
    if options.snapshot is not None:
        changes = {"snapshot": options.snapshot, "source": "file"}
    if options.source is not None:
        changes["source"] = options.source
    return read_settings().model_copy(update=changes)
