"""`python -m routing register`: a miner's model, checked as the router would, uploaded, and committed on chain."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.hub.settings import HubSettings
from models.hub.settings import read_settings as read_hub_settings
from routing.settings import RoutingSettings, read_settings
from streaming.errors import EngineError, MuseError

if TYPE_CHECKING:
    from bittensor import Wallet

    from models.hub.snapshot import Snapshot
    from routing.inspection import Candidate, Inspection

HELP = "check a model directory as the router would, upload it to the hub and commit to it on chain"

_GO_ON = "What is told above is done. Run the same command again: it goes on from there, and does nothing twice."


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `routing.cli.Command`."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="the model's files, hotkey.txt among them")
    parser.add_argument("--repository", required=True, metavar="NAMESPACE/NAME", help="where on the hub they go")
    parser.add_argument("--wallet", required=True, metavar="NAME", help="the bittensor wallet")
    parser.add_argument("--wallet-hotkey", required=True, metavar="NAME", help="its hotkey, which signs")
    parser.add_argument("--wallet-path", metavar="DIR", help="where wallets lie (default: ~/.bittensor/wallets)")
    parser.add_argument("--epoch", default="1", help="a word of the miner's own in the commitment (default: 1)")
    parser.add_argument("--competition", help="default: MUSE_ROUTING_COMPETITION")
    parser.add_argument("--network", help="finney, test, local or a ws:// address (default: MUSE_ROUTING_NETWORK)")
    parser.add_argument("--netuid", type=_netuid, metavar="N", help="the subnet (default: MUSE_ROUTING_NETUID)")
    parser.add_argument("--private", action="store_true", help="make a new repository private; few can serve it then")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be refused; no network")
    parser.epilog = "The hub's token is MUSE_HUB_TOKEN; the other settings of the hub are in docs/weights.md."


def run(options: argparse.Namespace) -> int:
    """See `routing.cli.Command`."""
    from routing.inspection import Candidate, inspect

    settings, hub = _settings(options), read_hub_settings()
    key, problems = _open_wallet(options)
    candidate = Candidate(
        directory=options.directory,
        repository=options.repository,
        epoch=options.epoch,
        competition=settings.competition,
        hotkey=key.address if key else None,
    )
    found = inspect(candidate, hub)
    _show(found)
    if problems := (*problems, *found.problems):
        return _refuse(problems)
    if options.dry_run:
        print("nothing would be refused; neither hub nor chain was asked")
        return 0
    if key is None or found.weights is None:
        raise EngineError("neither wallet nor weights, and nothing was refused")
    return _register(candidate, found.weights, key, settings=settings, hub=hub, private=options.private)


def _register(
    candidate: Candidate, weights: Snapshot, key: _Key, *, settings: RoutingSettings, hub: HubSettings, private: bool
) -> int:
    from routing.register import RefusedError, Registration, register
    from routing.sources import open_reader

    registration = Registration(
        candidate=candidate,
        hotkey=key.address,
        wallet=key.wallet,
        reader=open_reader(settings),
        hub=hub,
        private=private,
    )
    done: list[str] = []

    def say(line: str) -> None:
        done.append(line)
        print(line, flush=True)

    try:
        entry = register(registration, weights, say)
    except RefusedError as error:
        return _refuse(error.problems)
    except (MuseError, KeyboardInterrupt) as error:
        print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
        print(_GO_ON if done else "Nothing has been done.", file=sys.stderr)
        return 1
    print(f"registered: {entry.key}, uid {entry.uid}, block {entry.block}")
    return 0


@dataclass(frozen=True, slots=True)
class _Key:
    """The key that signs, which may still be locked, and its ss58 address."""

    wallet: Wallet
    address: str


def _settings(options: argparse.Namespace) -> RoutingSettings:
    """The environment's, where no option says otherwise. Raises EngineError naming what is wrong."""
    named = {name: getattr(options, name) for name in ("network", "netuid", "competition")}
    return read_settings().model_copy(update={name: value for name, value in named.items() if value is not None})


def _netuid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError("expected a number from 0 to 65535")
    return int(text)


def _open_wallet(options: argparse.Namespace) -> tuple[_Key | None, tuple[str, ...]]:
    """The wallet's hotkey, or why it cannot be used. A password is asked for only where there is something to sign."""
    import bittensor as bt

    place = {"path": options.wallet_path} if options.wallet_path else {}
    name = f"wallet {options.wallet}, hotkey {options.wallet_hotkey}"
    try:
        wallet = bt.Wallet(options.wallet, options.wallet_hotkey, **place)
        public = wallet.hotkeypub if wallet.hotkeypub_file.exists_on_device() else wallet.hotkey
        signs = public if options.dry_run else wallet.hotkey
    except Exception as error:  # a name that is none, a missing file, a wrong password, a file that is none
        return None, (f"{name}: {error}",)
    if signs.ss58_address != public.ss58_address:
        return None, (f"{name}: its public file names another key",)
    return _Key(wallet, str(public.ss58_address)), ()


def _show(found: Inspection) -> None:
    if found.weights is not None:
        files = found.weights.files
        size = sum(file.size for file in files.values())
        print(f"files: {len(files)}, {size:,} bytes, sha256={found.weights.digest}")
    if found.commitment is not None:
        print(f"commitment: {found.commitment}")


def _refuse(problems: tuple[str, ...]) -> int:
    for problem in problems:
        print(f"refused: {problem}", file=sys.stderr)
    return 1
