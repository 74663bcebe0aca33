from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routing.commands import leaderboard
from routing.leaderboard import Dropped, Entry, Snapshot, ValidatorEntry
from routing.scores.store import ScoreStore
from routing.scores.submission import Score, Submission
from routing.settings import PREFIX
from routing.snapshot_file import write
from routing.storage.database import open_database
from streaming.errors import EngineError
from tests.routing.chain.fake_chain import FakeChain, commit_of, commitment, hotkey

Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs the command, away from this machine's own files."""
    monkeypatch.setenv(f"{PREFIX}DATABASE", f"sqlite:///{tmp_path}/muse.db")
    monkeypatch.setenv(f"{PREFIX}CACHE", str(tmp_path / "kept.json"))

    def run(*arguments: str) -> int:
        parser = argparse.ArgumentParser()
        leaderboard.add_options(parser)
        return leaderboard.run(parser.parse_args(arguments))

    return run


def entry(uid: int, model: str, incentive: float) -> Entry:
    return Entry(
        uid=uid,
        hotkey=hotkey(model),
        model=model,
        commit=commit_of(model),
        block=uid,
        competition="v1",
        incentive=incentive,
        emission=10 * incentive,
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A copy of the chain, two minutes old."""
    snapshot = Snapshot(
        source="chain",
        network="finney",
        netuid=21,
        competition="v1",
        block=5_000_000,
        taken_at=time.time() - 120,
        entries=(entry(3, "omega/moshi-a", 0.25), entry(7, "omega/moshi-b", 0.5)),
        validators=(ValidatorEntry(uid=0, hotkey=hotkey("val"), stake=5000.0, last_update=1),),
        dropped=(
            Dropped(uid=9, hotkey=hotkey("eve"), code="wrong_hash", reason="its hash is 1 where 2 is expected"),
            Dropped(
                uid=11,
                hotkey=hotkey("bob"),
                code="future_block",
                reason="committed at block 9000000, but the newest is 5000000",
                version=f"omega/moshi-c@{'0' * 40}",
            ),
        ),
    )
    path = tmp_path / "leaderboard.json"
    write(path, snapshot)
    return str(path)


def test_by_default_what_comes_with_muse(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["rank", "model", "version", "uid", "incentive", "emission", "score"],
        ["1", "muse-embedded", "-", "0", "1.0000", "0.000", "-"],
    ]


def test_the_ranking(call: Call, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--source", "file", "--snapshot", file) == 0
    version_a, version_b = commit_of("omega/moshi-a")[:7], commit_of("omega/moshi-b")[:7]
    assert capsys.readouterr().out.splitlines() == [
        "Subnet 21 of finney, competition v1, block 5000000, 2 min old",
        "",
        "rank  model          version  uid  incentive  emission  score",
        f"   1  omega/moshi-b  {version_b}    7     0.5000     5.000  -      nobody has scored it yet",
        f"   2  omega/moshi-a  {version_a}    3     0.2500     2.500  -      nobody has scored it yet",
        "",
        "Not in it:",
        f"  uid 9 {hotkey('eve')[:8]}: its hash is 1 where 2 is expected",
        "  uid 11 omega/moshi-c@0000000: committed at block 9000000, but the newest is 5000000",
    ]


def test_columns_stand_under_each_other(call: Call, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    call("--snapshot", file)
    head, *rows = capsys.readouterr().out.splitlines()[2:5]
    for column in ("model", "version", "score"):
        assert all(row[head.index(column) - 1] == " " != row[head.index(column)] for row in rows)


async def score(database: str, model: str, total: float) -> None:
    opened = open_database(database)
    try:
        version = f"{model}@{commit_of(model)}"
        await ScoreStore(opened).add(
            Submission(
                profile="p1",
                validator_version="0.1.0",
                block=1,
                scores=(Score(version=version, status="ok", metrics={"total": total}),),
            ),
            validator=hotkey("val"),
            now=time.time() - 60,
        )
    finally:
        opened.close()


def test_with_scores_where_there_are_any(
    call: Call, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(score(f"sqlite:///{tmp_path}/muse.db", "omega/moshi-a", 0.61))
    call("--snapshot", file)
    lines = capsys.readouterr().out.splitlines()
    assert "0.610 (" in next(line for line in lines if "moshi-a" in line)
    assert "n = 1" in next(line for line in lines if "moshi-a" in line)
    assert "0.610" not in next(line for line in lines if "moshi-b" in line)
    monkeypatch.setenv("MUSE_ROUTING_VALIDATORS", hotkey("another"))  # as the gateway, which does not hear it either
    call("--snapshot", file)
    assert "0.610" not in capsys.readouterr().out


def test_looking_makes_no_database(call: Call, file: str, tmp_path: Path) -> None:
    call("--snapshot", file)
    assert not (tmp_path / "muse.db").exists()


def test_a_database_that_cannot_be_read_is_a_warning(
    call: Call, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "muse.db").write_text("not a database, but long enough to look like something that was one " * 30)
    assert call("--snapshot", file) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: the scores cannot be read: ")
    assert "omega/moshi-b" in said.out


def test_json(call: Call, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--snapshot", file, "--json") == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["netuid"], shown["block"], shown["stale"]) == ("chain", 21, 5_000_000, False)
    assert [(one["rank"], one["model"]) for one in shown["ranking"]] == [(1, "omega/moshi-b"), (2, "omega/moshi-a")]
    assert shown["dropped"][0]["code"] == "wrong_hash"
    assert "entries" not in shown


def test_the_operators_rules_hold(
    call: Call, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}BURN_UID", "7")
    call("--snapshot", file)
    out = capsys.readouterr().out
    assert "   1  omega/moshi-a" in out
    assert "  uid 7 omega/moshi-b" in out.partition("Not in it:")[2]


def test_an_old_copy_is_called_so(
    call: Call, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}STALE_SECONDS", "60")
    call("--snapshot", file)
    assert "2 min old, which is too old" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(("content", "fault"), [(None, "No such file"), ("{", "is not JSON")])
def test_no_leaderboard(call: Call, tmp_path: Path, content: str | None, fault: str) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EngineError, match=f"other.json: .*{fault}"):
        call("--snapshot", str(path))


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> FakeChain:
    chain = FakeChain()
    chain.add(hotkey("alice"), incentive=0.6)
    chain.commit(hotkey("alice"), commitment("omega/moshi-a"))
    monkeypatch.setattr("routing.chain.connection.substrate_for", lambda _network: chain.substrate)
    return chain


def test_the_chain(call: Call, chain: FakeChain, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--source", "chain") == 0
    assert "omega/moshi-a" in capsys.readouterr().out
    chain.advance()
    chain.commit(hotkey("alice"), commitment("omega/moshi-b"))
    assert call("--source", "chain") == 0
    assert "omega/moshi-b" in capsys.readouterr().out  # not what the first call has kept
    chain.failures["connect"] = ConnectionError("no route")
    assert call("--source", "chain") == 0
    said = capsys.readouterr()
    assert "omega/moshi-b" in said.out
    assert said.err == "warning: finney: ConnectionError: no route\n"


def test_a_chain_that_cannot_be_read(call: Call, chain: FakeChain) -> None:
    chain.failures["connect"] = ConnectionError("no route")
    with pytest.raises(EngineError, match="finney: ConnectionError: no route"):
        call("--source", "chain")
