"""`python -m routing`: the leaderboard, decisions explained, feedback, and the miners' command."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from streaming.errors import MuseError


class Command(Protocol):
    """A module of `routing.commands`."""

    HELP: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit status. Raises MuseError with a message for the person who called it."""


COMMANDS = ("leaderboard", "snapshot", "explain", "feedback", "register")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where it is refused or fails, 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m routing",
        description="Which model answers: the leaderboard, decisions explained, feedback, and the miners' command.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    commands = {name: _load(name) for name in COMMANDS}
    for name, command in commands.items():
        command.add_options(subparsers.add_parser(name, help=command.HELP, description=command.HELP))
    options = parser.parse_args(arguments)
    logging.getLogger("routing").addHandler(logging.NullHandler())  # what there is to say is printed
    try:
        return commands[options.command].run(options)
    except MuseError as error:
        print(f"error: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed; see the extras of muse-voice in pyproject.toml", file=sys.stderr)
    return 1


def _load(name: str) -> Command:
    return cast(Command, importlib.import_module(f"routing.commands.{name}"))
