"""`python -m routing leaderboard`: the ranking, and why others are not in it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from routing.commands.source_options import add_source_options, settings_of
from routing.leaderboard import Dropped, Snapshot, SourceState
from routing.policy.contract import Ranked
from routing.policy.ranking import brief, rank
from routing.scores.standings import Scoreboard
from routing.settings import RoutingSettings
from routing.sources import read_once
from streaming.errors import EngineError
from streaming.schema import to_json

HELP = "Print the ranking of the leaderboard's models, and why others are not in it."

_COLUMNS = ("rank", "model", "version", "uid", "incentive", "emission", "score", "")
_TO_THE_RIGHT = frozenset(("rank", "uid", "incentive", "emission"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `routing.cli.Command`."""
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """See `routing.cli.Command`."""
    return asyncio.run(_run(settings_of(options), as_json=options.json, now=time.time()))


async def _run(settings: RoutingSettings, *, as_json: bool, now: float) -> int:
    state = await read_once(settings, now=now)
    if state.snapshot is None:
        raise EngineError(state.problem or "there is no leaderboard")
    scoreboard, trouble = await read_scores(settings, state.snapshot, now=now)
    for problem in (state.problem, trouble):
        if problem is not None:
            print(f"warning: {problem}", file=sys.stderr)
    ranking = rank(state.snapshot, scoreboard, served=(), rules=settings.rules(), now=now)
    if as_json:
        print(json.dumps(document(state, state.snapshot, ranking), indent=1, allow_nan=False))
    else:
        print(text(state, state.snapshot, ranking))
    return 0


async def read_scores(
    settings: RoutingSettings, snapshot: Snapshot | None, *, now: float
) -> tuple[Scoreboard, str | None]:
    """The scores as the gateway sees them at `now` (Unix time, s), and why there are none where they cannot be read.

    A database that has not been made yet has no scores, and is not made for that.
    """
    from routing.scores.intake import admitted
    from routing.scores.queries import StoreRules
    from routing.scores.store import ScoreStore
    from routing.storage.address import parse_address
    from routing.storage.database import open_database

    url = settings.database.get_secret_value()
    try:
        address = parse_address(url)
        if address.sqlite and not await asyncio.to_thread(os.path.exists, address.url.database or ""):
            return Scoreboard(), None
        database = await asyncio.to_thread(open_database, url)
        try:
            heard = admitted(settings, snapshot)
            store = ScoreStore(database, StoreRules.of(settings))
            return await store.scoreboard(now=now, validators=heard), None
        finally:
            await asyncio.to_thread(database.close)
    except EngineError as error:
        return Scoreboard(), f"the scores cannot be read: {error.message}"


def text(state: SourceState, snapshot: Snapshot, ranking: Sequence[Ranked]) -> str:
    """For people."""
    served = [_row(ranked) for ranked in ranking if ranked.rank is not None]
    lines = [_title(state, snapshot), ""]
    lines += _table(served) if served else ["No model is in the ranking."]
    out = [*_excluded(ranking), *(f"{_place(one.uid)} {_name(one)}: {one.reason}" for one in snapshot.dropped)]
    if out:
        lines += ["", "Not in it:", *(f"  {line}" for line in out)]
    return "\n".join(lines)


def document(state: SourceState, snapshot: Snapshot, ranking: Sequence[Ranked]) -> dict[str, Any]:
    """For programs: the snapshot's fields, but for the ranking in place of its entries."""
    shown = to_json(snapshot)
    del shown["entries"]
    return {
        **shown,
        "age_seconds": state.age,
        "stale": state.stale,
        "problem": state.problem,
        "ranking": [to_json(ranked) for ranked in ranking],
    }


def _title(state: SourceState, snapshot: Snapshot) -> str:
    age = f"{_duration(state.age or 0.0)} old{', which is too old' if state.stale else ''}"
    if snapshot.source == "file":
        return f"The leaderboard of a file written by hand ({snapshot.network}), read {_duration(state.age or 0.0)} ago"
    competition = f", competition {snapshot.competition}" if snapshot.competition is not None else ""
    return f"Subnet {snapshot.netuid} of {snapshot.network}{competition}, block {snapshot.block}, {age}"


def _row(ranked: Ranked) -> tuple[str, ...]:
    entry, total = ranked.entry, ranked.scores.total
    score = "-" if total is None else f"{total.average:.3f} ({total.low:.3f} to {total.high:.3f}, n = {total.samples})"
    return (
        str(ranked.rank),
        ranked.model,
        _version(ranked),
        "-" if entry is None else str(entry.uid),
        "-" if entry is None else f"{entry.incentive:.4f}",
        "-" if entry is None else f"{entry.emission:.3f}",
        score,
        "" if ranked.unproven is None else ranked.unproven.text,
    )


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    table = [_COLUMNS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    return ["  ".join(map(_pad, row, _COLUMNS, widths)).rstrip() for row in table]


def _pad(value: str, column: str, width: int) -> str:
    return value.rjust(width) if column in _TO_THE_RIGHT else value.ljust(width)


def _excluded(ranking: Iterable[Ranked]) -> list[str]:
    return [
        f"{_place(_uid(ranked))} {brief(ranked.key)}: {ranked.excluded.text}"
        for ranked in ranking
        if ranked.excluded is not None
    ]


def _name(dropped: Dropped) -> str:
    return brief(dropped.version) if dropped.version is not None else dropped.hotkey[:8]


def _uid(ranked: Ranked) -> int | None:
    return None if ranked.entry is None else ranked.entry.uid


def _version(ranked: Ranked) -> str:
    return ranked.key.partition("@")[2][:7] or "-"


def _place(uid: int | None) -> str:
    return "no uid" if uid is None else f"uid {uid}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
