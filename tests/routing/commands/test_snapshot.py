from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from routing import snapshot_file
from routing.commands import snapshot
from routing.settings import PREFIX
from streaming.errors import EngineError
from tests.routing.chain.fake_chain import FakeChain, commitment, hotkey

Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    monkeypatch.setenv(f"{PREFIX}CACHE", str(tmp_path / "kept.json"))

    def run(*arguments: str) -> int:
        parser = argparse.ArgumentParser()
        snapshot.add_options(parser)
        return snapshot.run(parser.parse_args(arguments))

    return run


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> FakeChain:
    chain = FakeChain()
    chain.add(hotkey("val"), permit=True, stake=5000.0)
    for name in ("alice", "bob"):
        chain.add(hotkey(name), incentive=0.3)
        chain.commit(hotkey(name), commitment("omega/moshi-a"))
    monkeypatch.setattr("routing.chain.connection.substrate_for", lambda _network: chain.substrate)
    return chain


def test_what_the_chain_says_can_be_served_from_a_file(
    call: Call, chain: FakeChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "leaderboard.json"
    assert call("--source", "chain", str(out)) == 0
    assert capsys.readouterr().out == f"{out}: block 5000000; models: 1, validators: 1, dropped: 1\n"
    written = snapshot_file.read(out)
    assert [entry.model for entry in written.entries] == ["omega/moshi-a"]
    again = tmp_path / "again.json"
    assert call("--snapshot", str(out), str(again)) == 0
    assert snapshot_file.read(again) == written


def test_a_node_that_is_stuck_is_warned_of(
    call: Call, chain: FakeChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.clock = lambda: 1_700_000_000.0
    assert call("--source", "chain", str(tmp_path / "old.json")) == 0
    assert capsys.readouterr().err.startswith("warning: finney: the node's newest block is ")


def test_an_outage_writes_nothing_not_even_what_was_kept(call: Call, chain: FakeChain, tmp_path: Path) -> None:
    call("--source", "chain", str(tmp_path / "first.json"))
    chain.failures["connect"] = ConnectionError("no route")
    with pytest.raises(EngineError, match="nothing is written: finney: ConnectionError: no route"):
        call("--source", "chain", str(tmp_path / "second.json"))
    assert not (tmp_path / "second.json").exists()


def test_where_it_cannot_be_written(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be written"):
        call(str(tmp_path / "file" / "leaderboard.json"))
