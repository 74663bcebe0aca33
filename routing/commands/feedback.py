"""`python -m routing feedback`: what users said of each version, put together for evaluation."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from routing.feedback.aggregates import LEAST, VersionFeedback, aggregate
from routing.feedback.store import FeedbackStore
from routing.settings import read_settings
from routing.storage.address import parse_address
from routing.storage.database import open_database
from streaming.schema import to_json

HELP = "Print what users said of each version: ratings, tags, and how long they had waited."

_DAYS = re.compile(r"([1-9][0-9]{0,3})d")


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `routing.cli.Command`."""
    parser.add_argument(
        "--since", type=since, default="30d", metavar="DAYS|DATE", help="such as 7d or 2026-01-31; 30d by default"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--comments", action="store_true", help=f"comments too, of versions with {LEAST} ratings or more"
    )


def run(options: argparse.Namespace) -> int:
    """See `routing.cli.Command`."""
    found = asyncio.run(_read(read_settings().database.get_secret_value(), options.since))
    if options.json:
        print(json.dumps(document(found, since=options.since, comments=options.comments), indent=1, allow_nan=False))
    else:
        print("\n".join(lines(found, since=options.since, comments=options.comments)))
    return 0


def since(text: str) -> date:
    """The first day of `7d` (seven days ago, in UTC) or of a date. Raises ArgumentTypeError saying what is expected."""
    if (days := _DAYS.fullmatch(text)) is not None:
        return datetime.now(UTC).date() - timedelta(days=int(days[1]))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected days such as 7d, or a date such as 2026-01-31, got {text!r}"
        ) from None


def document(found: Sequence[VersionFeedback], *, since: date, comments: bool) -> dict[str, Any]:
    """For programs."""
    versions = [to_json(version) for version in found]
    if not comments:
        for version in versions:
            del version["comments"]
    return {"object": "feedback", "since": since.isoformat(), "least": LEAST, "versions": versions}


def lines(found: Sequence[VersionFeedback], *, since: date, comments: bool) -> Iterator[str]:
    """For people."""
    ratings = sum(version.ratings for version in found)
    yield f"{_count(ratings, 'rating')} of {_count(len(found), 'version')} since {since}"
    for version in found:
        yield ""
        yield f"{version.version}: {_count(version.ratings, 'rating')}{_mean(version)}"
        yield from _waits(version)
        if version.tags:
            yield "  tags: " + ", ".join(f"{tag} {count}" for tag, count in version.tags.items())
        if comments:
            yield from (f"  - {comment}" for comment in version.comments)


async def _read(url: str, first: date) -> tuple[VersionFeedback, ...]:
    """A database that has not been made yet has no feedback, and is not made for that."""
    address = parse_address(url)
    if address.sqlite and not await asyncio.to_thread(os.path.exists, address.url.database or ""):
        return ()
    database = await asyncio.to_thread(open_database, url)
    try:
        return aggregate(await FeedbackStore(database).since(first))
    finally:
        await asyncio.to_thread(database.close)


def _mean(version: VersionFeedback) -> str:
    if version.mean is None:
        return f" (fewer than {LEAST}: nothing more is told of them)"
    return f", mean {version.mean:.2f} ({version.low:.2f} to {version.high:.2f})"


def _waits(version: VersionFeedback) -> Iterator[str]:
    if version.mean is None:
        return
    yield "  rating  count  wait p50  wait p95"
    rows = [*((str(rating), wait) for rating, wait in sorted(version.wait_by_rating.items(), reverse=True))]
    for name, wait in (*rows, ("all", version.wait)):
        yield f"  {name:>6}  {wait.ratings:>5}  {_ms(wait.p50_ms)}  {_ms(wait.p95_ms)}"


def _ms(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.0f} ms':>8}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
