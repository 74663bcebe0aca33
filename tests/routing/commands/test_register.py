"""`python -m routing register`, as it is typed."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import bittensor as bt
import pytest
from huggingface_hub import _commit_api

from models.hub import upload
from routing import register as module
from routing.chain import connection
from routing.commands import register
from tests.models.hub.fake_hub import REPOSITORY
from tests.models.hub.fake_uploads import TOKEN, UploadHub, serving_uploads
from tests.models.tiny_checkpoint import TOKENIZER, write_checkpoint
from tests.routing.chain.fake_chain import FakeChain, hotkey, keypair


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("MUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MUSE_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wallets(tmp_path: Path) -> Path:
    wallet = bt.Wallet("miner", "hot", path=str(tmp_path / "wallets"))
    wallet.hotkey_file.set_keypair(keypair("alice"), encrypt=False)
    wallet.hotkeypub_file.set_keypair(keypair("alice"), encrypt=False)
    return tmp_path / "wallets"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    write_checkpoint(root, hotkey=hotkey("alice"))
    return root


def call(directory: Path, wallets: Path, *more: str) -> int:
    parser = argparse.ArgumentParser()
    register.add_options(parser)
    wallet = ["--wallet", "miner", "--wallet-hotkey", "hot", "--wallet-path", str(wallets)]
    return register.run(parser.parse_args([str(directory), "--repository", REPOSITORY, *wallet, *more]))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("the network is used")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_needs_no_network(directory: Path, wallets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(directory, wallets, "--competition", "v1", "--dry-run") == 0
    files, commitment, verdict = capsys.readouterr().out.splitlines()
    assert files.startswith("files: 6, ")
    assert commitment.startswith("commitment: somebody:small-moshi:1:<commit>:")
    assert commitment.endswith(":v1")
    assert verdict == "nothing would be refused; neither hub nor chain was asked"


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_says_all_that_would_be_refused(
    directory: Path, wallets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "hotkey.txt").write_text(hotkey("bob"))
    (directory / "modeling.py").touch()
    (directory / TOKENIZER).unlink()
    assert call(directory, wallets, "--epoch", "a b", "--dry-run") == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["refused:", "modeling.py:"],
        ["refused:", "hotkey.txt:"],
        ["refused:", TOKENIZER],
        ["refused:", "commitment:"],
    ]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_a_wallet_that_cannot_be_read_is_told_with_the_rest(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (directory / "modeling.py").touch()
    assert call(directory, tmp_path / "nothing", *options) == 1
    wallet, code = capsys.readouterr().err.splitlines()
    assert wallet.startswith("refused: wallet miner, hotkey hot: keyfile at ")
    assert code.startswith("refused: modeling.py: ")


@pytest.mark.usefixtures("no_network")
def test_a_wallet_whose_files_do_not_agree_is_refused(
    directory: Path, wallets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bt.Wallet("miner", "hot", path=str(wallets)).hotkey_file.set_keypair(keypair("bob"), encrypt=False, overwrite=True)
    assert call(directory, wallets) == 1
    assert "its public file names another key" in capsys.readouterr().err


@pytest.mark.usefixtures("no_network")
def test_a_wallet_whose_name_is_none_is_refused(
    directory: Path, wallets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(directory, wallets, "--wallet", "../miner", "--dry-run") == 1
    assert capsys.readouterr().err.startswith("refused: wallet ../miner, hotkey hot: ")


def test_a_netuid_that_is_none_is_a_wrong_option(directory: Path, wallets: Path) -> None:
    with pytest.raises(SystemExit):
        call(directory, wallets, "--netuid", "70000", "--dry-run")


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> FakeChain:
    chain = FakeChain()
    chain.add(hotkey("alice"))
    monkeypatch.setattr(connection, "substrate_for", lambda network: chain.substrate)
    monkeypatch.setattr(module, "_BETWEEN_READS", 0.0)
    return chain


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    monkeypatch.setattr(_commit_api, "is_xet_available", lambda: False)
    monkeypatch.setattr(module, "publish", partial(upload.publish, resolver=lambda host, port: ["127.0.0.1"]))
    with serving_uploads(UploadHub()) as hub:
        for name, value in {"ENDPOINT": hub.endpoint, "TOKEN": TOKEN, "ALLOW_LOOPBACK": "1"}.items():
            monkeypatch.setenv(f"MUSE_HUB_{name}", value)
        yield hub


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_whole_way(
    directory: Path, wallets: Path, chain: FakeChain, hub: UploadHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(directory, wallets, "--network", "local", "--competition", "v1") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"registered: {REPOSITORY}@{hub.commit}, uid 0, block {chain.block}"
    assert TOKEN not in said.out + said.err


def test_a_step_that_fails_says_how_to_go_on(
    directory: Path, wallets: Path, chain: FakeChain, hub: UploadHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refused["/api/repos/create"] = 403
    assert call(directory, wallets, "--network", "local") == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("chain: local, subnet 21: the hotkey is registered")
    assert f"error: {REPOSITORY}: the token may not write there" in said.err
    assert "Run the same command again" in said.err


def test_where_the_first_step_fails_nothing_is_said_to_be_done(
    directory: Path, wallets: Path, chain: FakeChain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.failures["connect"] = ConnectionError("refused")
    assert call(directory, wallets, "--network", "local") == 1
    assert capsys.readouterr().err == "error: local: ConnectionError: refused\nNothing has been done.\n"


def test_an_interrupted_upload_says_how_to_go_on(
    directory: Path,
    wallets: Path,
    chain: FakeChain,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", interrupted)
    assert call(directory, wallets, "--network", "local") == 1
    assert capsys.readouterr().err.startswith("error: interrupted\nWhat is told above is done.")
    assert chain.count("submit") == 0


def test_what_the_chain_would_drop_is_refused(
    directory: Path, wallets: Path, chain: FakeChain, hub: UploadHub, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.add(hotkey("bob"))
    chain.remove(hotkey("alice"))
    assert call(directory, wallets, "--network", "local") == 1
    assert "refused: local: no neuron of subnet 21 has a commitment" in capsys.readouterr().err
    assert not hub.requests
