from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from routing.chain.source import ChainSource
from routing.file_source import FileSource
from routing.settings import RoutingSettings
from routing.sources import open_source
from streaming.errors import EngineError
from tests.routing.chain.fake_chain import FakeChain, commitment, hotkey

T0 = 1_790_000_000.0


async def test_by_default_the_file_that_comes_with_muse() -> None:
    source = open_source(RoutingSettings())
    assert isinstance(source, FileSource)
    state = await source.refresh(now=T0)
    assert state.snapshot is not None
    assert [entry.key for entry in state.snapshot.entries] == ["muse-embedded"]
    await source.close()


async def test_the_chain_by_the_settings(tmp_path: Path) -> None:
    chain = FakeChain(netuid=157, name="omega", clock=lambda: T0)
    for name, competition in (("alice", "v1"), ("bob", "v2"), ("carol", "v1")):
        chain.add(hotkey(name), incentive=0.3)
        chain.commit(hotkey(name), commitment(f"omega/{name}", competition=competition))
    settings = RoutingSettings(
        source="chain",
        network="test",
        netuid=157,
        competition="v1",
        subnet_name="omega",
        burn_uid=2,
        cache=tmp_path / "kept.json",
    )
    source = open_source(settings, open_substrate=chain.substrate)
    assert isinstance(source, ChainSource)
    state = await source.refresh(now=T0)
    await source.close()
    assert state.snapshot is not None
    assert (state.snapshot.network, state.snapshot.netuid, state.snapshot.competition) == ("test", 157, "v1")
    assert [entry.model for entry in state.snapshot.entries] == ["omega/alice"]
    assert (tmp_path / "kept.json").exists()
    assert chain.open == 0


def test_an_unknown_network() -> None:
    with pytest.raises(EngineError, match="MUSE_ROUTING_NETWORK: Unknown network 'finey'"):
        open_source(RoutingSettings(source="chain", network="finey"))


def test_without_bittensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.sources.find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=r"bittensor is not installed: pip install 'muse-voice\[chain\]'"):
        open_source(RoutingSettings(source="chain"))


def test_a_file_needs_no_bittensor() -> None:
    code = (
        "import sys; from routing.settings import RoutingSettings; from routing.sources import open_source;"
        "open_source(RoutingSettings()); sys.exit('bittensor' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
