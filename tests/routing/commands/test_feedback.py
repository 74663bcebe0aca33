from __future__ import annotations

import argparse
import asyncio
import json
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest

from routing.cli import main
from routing.commands.feedback import since
from routing.feedback.aggregates import LEAST
from routing.feedback.form import Feedback, Tag
from routing.feedback.store import FeedbackStore
from routing.feedback.turns import RatedTurn
from routing.storage.database import open_database
from streaming.timeline import TurnLatency

TODAY = date(2026, 11, 22)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that does not end while it is looked at."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.combine(TODAY, time(12), tz)

    monkeypatch.setattr("routing.commands.feedback.datetime", Clock)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "muse.db"
    monkeypatch.setenv("MUSE_ROUTING_DATABASE", f"sqlite:///{path}")
    return path


async def keep(file: Path, version: str, *ratings: int, day: date = TODAY, comment: str | None = None) -> None:
    database = open_database(f"sqlite:///{file}")
    try:
        for rating in ratings:
            tags: tuple[Tag, ...] = ("slow",) if rating < 3 else ()
            feedback = Feedback(response_id="resp_hidden", rating=rating, tags=tags, comment=comment)
            latency = TurnLatency(total=rating * 100_000_000, parts=())
            await FeedbackStore(database).add(feedback, RatedTurn(version=version, latency=latency), day=day)
    finally:
        database.close()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["feedback", *arguments]) == 0
    return capsys.readouterr().out


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    document = json.loads(printed(capsys, "--json", *arguments))
    assert isinstance(document, dict)
    return document


def test_without_a_database_there_is_nothing_and_none_is_made(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--since", "2026-01-01") == "0 ratings of 0 versions since 2026-01-01\n"
    assert read(capsys)["versions"] == []
    assert not file.exists()


def test_the_aggregates_for_people(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(keep(file, "omega/a@1", *[5] * 5, *[2] * 6, 1, comment="It was fine."))
    asyncio.run(keep(file, "omega/b@1", 1))
    first = (TODAY - timedelta(days=7)).isoformat()
    assert printed(capsys, "--since", "7d").splitlines() == [
        f"13 ratings of 2 versions since {first}",
        "",
        "omega/a@1: 12 ratings, mean 3.17 (2.14 to 4.11)",
        "  rating  count  wait p50  wait p95",
        "       5      5    500 ms    500 ms",
        "       2      6    200 ms    200 ms",
        "       1      1         -         -",
        "     all     12    200 ms    500 ms",
        "  tags: slow 7",
        "",
        "omega/b@1: 1 rating (fewer than 5: nothing more is told of them)",
    ]


def test_the_aggregates_for_programs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(keep(file, "omega/a@1", *[4] * 8))
    found = read(capsys, "--since", TODAY.isoformat())
    assert (found["object"], found["since"], found["least"]) == ("feedback", TODAY.isoformat(), LEAST)
    (version,) = found["versions"]
    assert (version["version"], version["ratings"], version["mean"]) == ("omega/a@1", 8, 4.0)
    assert version["low"] < 4.0 < version["high"]
    assert version["wait"] == {"ratings": 8, "p50_ms": 400.0, "p95_ms": 400.0}
    assert version["wait_by_rating"] == {"4": {"ratings": 8, "p50_ms": 400.0, "p95_ms": 400.0}}
    assert "comments" not in version


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_comments_are_told_when_asked_for_and_of_groups_that_hide_their_writers(
    file: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    asyncio.run(keep(file, "omega/many@1", *[4] * LEAST, comment="one of many"))
    asyncio.run(keep(file, "omega/few@1", *[4] * (LEAST - 1), comment="one of few"))
    assert "one of" not in printed(capsys, *form)
    told = printed(capsys, "--comments", *form)
    assert told.count("one of many") == LEAST
    assert "one of few" not in told


def test_older_ratings_are_left_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(keep(file, "omega/a@1", *[4] * 6, day=TODAY - timedelta(days=8)))
    asyncio.run(keep(file, "omega/a@1", *[2] * 5, day=TODAY - timedelta(days=7)))
    assert read(capsys, "--since", "7d")["versions"][0]["mean"] == 2.0
    assert read(capsys, "--since", "8d")["versions"][0]["ratings"] == 11
    assert read(capsys)["versions"][0]["ratings"] == 11


def test_since() -> None:
    assert since("2026-01-31") == date(2026, 1, 31)
    assert since("1d") == TODAY - timedelta(days=1)


@pytest.mark.parametrize(
    "text", ["", "d", "0d", "-1d", "99999d", "7", "7 d", "7h", "yesterday", "2026-02-30", "2026-13-01"]
)
def test_what_is_no_day_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected days such as 7d"):
        since(text)
    with pytest.raises(SystemExit) as raised:
        main(["feedback", f"--since={text}"])
    assert raised.value.code == 2
    assert "expected days such as 7d, or a date" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["nonsense", "postgresql+psycopg://me:hunter2@127.0.0.1:1/x", "sqlite:////proc/no/x.db"]
)
def test_a_database_that_cannot_be_read_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSE_ROUTING_DATABASE", url)
    if url.startswith("sqlite"):
        monkeypatch.setattr("os.path.exists", lambda _: True)
    assert main(["feedback"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "hunter2" not in captured.err
    assert captured.out == ""
