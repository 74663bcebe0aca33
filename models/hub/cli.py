"""`python -m models hub`: fetch, verify and pin weights, see what the cache holds and remove it from there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.hub.errors import WeightsRefusedError
from models.hub.ref import LocalRef, parse_digest, parse_ref
from models.hub.settings import HubSettings, read_settings
from streaming.errors import EngineError

if TYPE_CHECKING:
    from models.hub.cache import Kept
    from models.hub.download import Progress, Report
    from models.hub.snapshot import Snapshot


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands to `python -m models hub`; `run` takes what they parse."""
    commands = parser.add_subparsers(dest="hub_command", required=True)
    fetch = commands.add_parser("fetch", help="download weights at a pinned commit and verify them")
    fetch.add_argument("ref", metavar="REF", help="namespace/name@<commit>[#sha256=<digest>], or file:directory")
    verify = commands.add_parser("verify", help="check a directory of weights and print its digest")
    verify.add_argument("directory", metavar="DIR", type=Path)
    verify.add_argument("--sha256", help="the digest that the whole directory must have")
    for command in (fetch, verify):
        command.add_argument("--hotkey", help="the ss58 address that hotkey.txt must hold")
    pin = commands.add_parser("pin", help="print the reference to what a repository's main branch holds now")
    pin.add_argument("repository", metavar="NAMESPACE/NAME")
    cache = commands.add_parser("cache", help="show what the cache holds, or remove what is not in use from there")
    removed = cache.add_mutually_exclusive_group()
    removed.add_argument("--remove", metavar="REF", help="remove this one: namespace/name@<commit>")
    removed.add_argument("--empty", action="store_true", help="remove all of them")


def run(options: argparse.Namespace) -> int:
    """Run a command; 0 where all is well, 1 where weights are refused or cannot be had."""
    try:
        _run(options, read_settings())
    except EngineError as error:
        print(f"error: {error.message} ({error.code})", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"error: {error.name} is not installed; it comes with muse-voice[hub]", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, settings: HubSettings) -> None:
    from models.hub.api import pin
    from models.hub.snapshot import resolve

    match options.hub_command:
        case "pin":
            print(pin(options.repository, settings))
        case "verify":
            sha256 = parse_digest(options.sha256) if options.sha256 else None
            ref = LocalRef(directory=options.directory, sha256=sha256)
            _show(resolve(ref, settings=settings, hotkey=options.hotkey))
        case "cache":
            _cache(options, settings)
        case _:
            with progress_bars() as report:
                snapshot = resolve(options.ref, settings=settings, hotkey=options.hotkey, report=report)
            _show(snapshot)


def _show(snapshot: Snapshot) -> None:
    for name, file in snapshot.files.items():
        print(f"{file.sha256}  {name}  {file.size} bytes")
    print(f"{snapshot.directory}: ok, sha256={snapshot.digest}")


def _cache(options: argparse.Namespace, settings: HubSettings) -> None:
    from models.hub.cache import look, remove, shown

    ref = parse_ref(options.remove) if options.remove else None
    if isinstance(ref, LocalRef):
        raise WeightsRefusedError(str(ref), "a directory of yours is never removed")
    if ref or options.empty:
        for kept in remove(settings, replace(ref, sha256=None) if ref else None):
            print(f"removed: {_line(kept)}")
    found = look(settings)
    for kept in found:
        print(_line(kept))
    limit = f"at most {settings.cache_gb:g} GB" if settings.cache_gb else "no limit"
    print(f"{settings.cache}: {shown(sum(kept.size for kept in found))}; {limit} (MUSE_HUB_CACHE_GB)")


def _line(kept: Kept) -> str:
    from models.hub.cache import shown

    last = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.last_used)) if kept.last_used else "unknown"
    notes = f"{', incomplete' * (not kept.whole)}{', in use' * kept.in_use}"
    return f"{kept.place.ref}  {shown(kept.size)}, last used {last}{notes}"


@contextmanager
def progress_bars() -> Iterator[Report]:
    """One bar for each file, where there is a terminal to draw it on."""
    from huggingface_hub.utils.tqdm import tqdm

    with ExitStack() as stack:
        bars: dict[str, tqdm] = {}

        def report(progress: Progress) -> None:
            if progress.file not in bars:
                bar = tqdm(  # type: ignore[no-untyped-call]
                    desc=progress.file, total=progress.size, unit="B", unit_scale=True, disable=None
                )
                bars[progress.file] = stack.enter_context(bar)
            bars[progress.file].update(progress.received - bars[progress.file].n)

        yield report
