"""`python -m models hub`: fetch, verify and pin weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils.tqdm import tqdm

from models.hub.api import pin
from models.hub.download import Progress, Report
from models.hub.errors import WeightsError
from models.hub.ref import LocalRef, parse_digest
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0 where all is well, 1 where weights are refused or cannot be had, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    settings = HubSettings()
    try:
        if options.command == "pin":
            print(pin(options.repository, settings))
            return 0
        if options.command == "verify":
            sha256 = parse_digest(options.sha256) if options.sha256 else None
            ref = LocalRef(directory=options.directory, sha256=sha256)
            _show(resolve(ref, settings=settings, hotkey=options.hotkey))
            return 0
        with _bars() as report:
            snapshot = resolve(options.ref, settings=settings, hotkey=options.hotkey, report=report)
        _show(snapshot)
    except WeightsError as error:
        print(f"error: {error.message} ({error.code})", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models hub", description="Weights from the hub, verified.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="download weights at a pinned commit and verify them")
    fetch.add_argument("ref", metavar="REF", help="namespace/name@<commit>[#sha256=<digest>], or file:directory")
    verify = commands.add_parser("verify", help="check a directory of weights and print its digest")
    verify.add_argument("directory", metavar="DIR", type=Path)
    verify.add_argument("--sha256", help="the digest that the whole directory must have")
    for command in (fetch, verify):
        command.add_argument("--hotkey", help="the ss58 address that hotkey.txt must hold")
    pinned = commands.add_parser("pin", help="print the reference to what a repository's main branch holds now")
    pinned.add_argument("repository", metavar="NAMESPACE/NAME")
    return parser


def _show(snapshot: Snapshot) -> None:
    for name, file in snapshot.files.items():
        print(f"{file.sha256}  {name}  {file.size} bytes")
    print(f"{snapshot.directory}: ok, sha256={snapshot.digest}")


@contextmanager
def _bars() -> Iterator[Report]:
    """One bar at a time, for the file that is coming."""
    bar: tqdm | None = None

    def report(progress: Progress) -> None:
        nonlocal bar
        if bar is None or bar.desc != f"{progress.file}: ":
            if bar is not None:
                bar.close()
            bar = tqdm(  # type: ignore[no-untyped-call]
                desc=progress.file, total=progress.size, unit="B", unit_scale=True, disable=None
            )
        bar.update(progress.received - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
