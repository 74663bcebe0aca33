"""A chain in memory, to be read and written through bittensor's own client.

    chain = FakeChain(netuid=21)
    uid = chain.add(hotkey("alice"), incentive=0.6)             # a miner
    chain.add(hotkey("val"), permit=True, stake=5000.0)         # a validator
    chain.commit(hotkey("alice"), commitment("omega/moshi-a"))  # what it stands for
    chain.advance(10)

    ChainReader(..., open_substrate=chain.substrate)            # Muse's reader
    client = bt.Client("local", substrate=chain.substrate())    # or the SDK alone
    await client.submit_call(bt.calls.Commitments.set_commitment(netuid=21, info=...), keypair, signer="hotkey")

Faults: `chain.failures["runtime_call"] = ConnectionError("...")` makes that method of every connection raise,
`chain.hangs.add("connect")` makes it wait for ever; remove them again and the chain is back. `chain.opened` and
`chain.open` count the connections ever made and those not closed; `chain.calls` lists every read as `method:item`.
Shares such as `incentive` are what the SDK gives; they may be out of range, as nothing here is checked for sense.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import bittensor as bt
from bittensor.sp_core import Keypair

from routing.chain.grammar import format_commitment, new_commitment

RAO = 10**9
PER_U16 = 65535


def keypair(name: str) -> Keypair:
    """The development key of that name."""
    return Keypair.create_from_uri(f"//{name}")


@functools.cache
def hotkey(name: str) -> str:
    """Its ss58 address."""
    return str(keypair(name).ss58_address)


def commit_of(seed: str) -> str:
    """40 hex digits that differ by `seed`."""
    return hashlib.sha1(seed.encode()).hexdigest()


def commitment(model: str, *, commit: str | None = None, epoch: str = "1", competition: str | None = "v1") -> str:
    """A well-formed commitment to `model`, by default to a commit made of its name."""
    made = new_commitment(model=model, epoch=epoch, commit=commit or commit_of(model), competition=competition)
    return format_commitment(made)


@dataclass
class FakeNeuron:
    hotkey: str
    incentive: float
    permit: bool
    stake: float
    emission: float
    last_update: int


@dataclass
class FakeRecord:
    """One entry of CommitmentOf: the block, and the fields as the transport decodes them."""

    block: int
    fields: list[Any]


@dataclass
class FakeChain:
    """One subnet. `name` None: there is no such subnet. `clock`: what the newest block's timestamp says, Unix s."""

    netuid: int = 21
    name: str | None = "muse"
    block: int = 5_000_000
    clock: Callable[[], float] = time.time
    neurons: list[FakeNeuron] = field(default_factory=list)
    committed: dict[str, FakeRecord] = field(default_factory=dict)
    revealed: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    blocks_read: set[str | None] = field(default_factory=set)
    moves: bool = False
    opened: int = 0
    open: int = 0

    def substrate(self) -> bt.Substrate:
        """A new connection, not yet connected."""
        return cast(bt.Substrate, FakeSubstrate(self))

    def add(
        self,
        hotkey: str,
        *,
        incentive: float = 0.0,
        permit: bool = False,
        stake: float = 0.0,
        emission: float = 0.0,
        last_update: int | None = None,
    ) -> int:
        """Register a neuron; returns its uid. Stake and emission are in alpha."""
        self.neurons.append(
            FakeNeuron(hotkey, incentive, permit, stake, emission, self.block if last_update is None else last_update)
        )
        return len(self.neurons) - 1

    def neuron(self, hotkey: str) -> FakeNeuron:
        """To change it in place."""
        return next(neuron for neuron in self.neurons if neuron.hotkey == hotkey)

    def remove(self, hotkey: str) -> None:
        """Another takes its place; its commitment stays behind, as on the real chain."""
        self.neuron(hotkey).hotkey = str(Keypair.create_from_uri(f"//{hotkey}//next").ss58_address)

    def commit(self, hotkey: str, text: str | bytes, *, block: int | None = None) -> None:
        """Set what a hotkey stands for, registered or not."""
        data = text.encode() if isinstance(text, str) else text
        self.commit_fields(hotkey, [{f"Raw{len(data)}": f"0x{data.hex()}"}], block=block)

    def commit_fields(self, hotkey: str, fields: list[Any], *, block: int | None = None) -> None:
        """The same, for fields that are not one plain text."""
        self.committed[hotkey] = FakeRecord(self.block if block is None else block, fields)

    def seal(self, hotkey: str, *, block: int | None = None) -> None:
        """A commitment that is to be opened later."""
        sealed = {"TimelockEncrypted": {"encrypted": "0x00", "reveal_round": 10**9}}
        self.commit_fields(hotkey, [sealed], block=block)

    def reveal(self, hotkey: str, text: str) -> None:
        """Open a sealed commitment: its record goes, its text joins the revealed ones, with its SCALE length."""
        self.committed.pop(hotkey, None)
        length = len(text)
        prefix = bytes([length << 2]) if length < 64 else (length << 2 | 1).to_bytes(2, "little")
        data = prefix + text.encode()
        try:
            shown = data.decode()
        except UnicodeDecodeError:
            shown = f"0x{data.hex()}"
        self.revealed.setdefault(hotkey, []).append((shown, self.block))

    def advance(self, blocks: int = 1) -> None:
        """Time passes."""
        self.block += blocks

    def count(self, method: str) -> int:
        """How often a method was called, such as `runtime_call`."""
        return Counter(call.partition(":")[0] for call in self.calls)[method]

    def metagraph(self) -> dict[str, Any]:
        """As `SubnetInfoRuntimeApi.get_metagraph` answers."""
        return {
            "netuid": self.netuid,
            "name": list((self.name or "").encode()),
            "symbol": list(b"m"),
            "block": self.block,
            "tempo": 360,
            "last_step": self.block - 100,
            "blocks_since_last_step": 100,
            "owner_hotkey": hotkey("owner"),
            "owner_coldkey": hotkey("owner"),
            "network_registered_at": 1,
            "num_uids": len(self.neurons),
            "max_uids": 256,
            "identity": None,
            "hotkeys": [neuron.hotkey for neuron in self.neurons],
            "coldkeys": [neuron.hotkey for neuron in self.neurons],
            "active": [True for _ in self.neurons],
            "validator_permit": [neuron.permit for neuron in self.neurons],
            "last_update": [neuron.last_update for neuron in self.neurons],
            "block_at_registration": [1 for _ in self.neurons],
            "incentives": [round(neuron.incentive * PER_U16) for neuron in self.neurons],
            "emission": [round(neuron.emission * RAO) for neuron in self.neurons],
            "alpha_stake": [round(neuron.stake * RAO) for neuron in self.neurons],
            "total_stake": [round(neuron.stake * RAO) for neuron in self.neurons],
        }


class FakeSubstrate:
    """One connection to a FakeChain: what bittensor's client and executor call of a substrate."""

    def __init__(self, chain: FakeChain) -> None:
        self._chain = chain
        self._connected = False
        self.token_symbols: dict[int, str] = {}

    async def _do(self, method: str, item: str = "") -> None:
        chain = self._chain
        chain.calls.append(f"{method}:{item}" if item else method)
        chain.block += chain.moves
        if method in chain.hangs:
            await asyncio.Event().wait()
        if method in chain.failures:
            raise chain.failures[method]
        if method not in ("connect", "close") and not self._connected:
            raise bt.ConnectionNotReady("not connected")
        await asyncio.sleep(0)

    async def connect(self) -> None:
        if not self._connected:
            self._connected = True  # a connection that is being opened is one that can leak
            self._chain.opened += 1
            self._chain.open += 1
            await self._do("connect")

    async def close(self) -> None:
        if self._connected:
            self._connected = False
            self._chain.open -= 1
        await self._do("close")

    def balance(self, rao: int, netuid: int = 0) -> bt.Balance:
        return bt.Balance(int(rao), netuid)

    async def block_number(self) -> int:
        await self._do("block_number")
        return self._chain.block

    async def finalized_block_number(self) -> int:
        return await self.block_number()

    async def block_hash(self, block: int | None = None) -> str:
        await self._do("block_hash")
        return f"0x{self._chain.block if block is None else block:064x}"

    async def block_time(self) -> float:
        return 12.0

    async def spec_version(self) -> int:
        return 440

    async def query(
        self, module: str, storage_function: str, params: list[Any] | None = None, block_hash: str | None = None
    ) -> Any:
        await self._do("query", storage_function)
        self._chain.blocks_read.add(block_hash)
        match module, storage_function:
            case "Timestamp", "Now":
                return round(self._chain.clock() * 1000)
            case "Commitments", "CommitmentOf":
                assert params is not None
                return next((value for key, value in self._commitments(params[0]) if key == params[1]), None)
        raise bt.ChainError(f"the fake chain keeps no {module}.{storage_function}")

    async def query_map(
        self, module: str, storage_function: str, params: list[Any] | None = None, block_hash: str | None = None
    ) -> list[tuple[Any, Any]]:
        await self._do("query_map", storage_function)
        self._chain.blocks_read.add(block_hash)
        netuid = params[0] if params else None
        match module, storage_function:
            case "Commitments", "CommitmentOf":
                return self._commitments(netuid)
            case "Commitments", "RevealedCommitments":
                return list(self._chain.revealed.items()) if netuid == self._chain.netuid else []
            case "SubtensorModule", "Uids":
                return [(neuron.hotkey, uid) for uid, neuron in enumerate(self._chain.neurons)]
        raise bt.ChainError(f"the fake chain keeps no {module}.{storage_function}")

    async def runtime_call(self, api: str, method: str, params: list[Any], block_hash: str | None = None) -> Any:
        await self._do("runtime_call", method)
        self._chain.blocks_read.add(block_hash)
        if (api, method) != ("SubnetInfoRuntimeApi", "get_metagraph"):
            raise bt.ChainError(f"the fake chain answers no {api}.{method}")
        exists = self._chain.name is not None and params[0] == self._chain.netuid
        return self._chain.metagraph() if exists else None

    async def blocks(self, *, finalized: bool = False) -> AsyncIterator[dict[str, Any]]:
        while True:
            await self._do("blocks")
            self._chain.advance()
            yield {"header": {"number": self._chain.block, "parentHash": f"0x{self._chain.block - 1:064x}"}}

    async def compose(self, call: Any) -> Any:
        await self._do("compose", call.function)
        return call

    async def submit(self, call: Any, keypair: Any, **_options: Any) -> bt.ExtrinsicResult:
        """Takes `Commitments.set_commitment` of a registered hotkey; the next block holds it."""
        await self._do("submit", call.function)
        if (call.module, call.function) != ("Commitments", "set_commitment"):
            return _refused("CallFiltered", f"the fake chain takes no {call.module}.{call.function}")
        keypair.sign(b"a transaction is signed")
        signer, netuid, fields = keypair.ss58_address, call.params["netuid"], call.params["info"]["fields"]
        registered = any(neuron.hotkey == signer for neuron in self._chain.neurons)
        if netuid != self._chain.netuid or not registered:
            return _refused("AccountNotAllowedCommit", "Account is not allowed to make commitments to the chain")
        if len(fields) != 1:
            return _refused("TooManyFieldsInCommitmentInfo", "Account passed too many additional fields")
        self._chain.advance()
        self._chain.commit(signer, _raw(fields[0]))
        block = self._chain.block
        return bt.ExtrinsicResult(
            success=True, message="Success", block_hash=f"0x{block:064x}", extrinsic_id=f"{block}-0001"
        )

    def _commitments(self, netuid: int | None) -> list[tuple[str, Any]]:
        if netuid != self._chain.netuid:
            return []
        return [
            (hotkey, {"block": record.block, "deposit": 0, "info": {"fields": record.fields}})
            for hotkey, record in self._chain.committed.items()
        ]


def _raw(entry: Any) -> bytes:
    """The bytes of `{"Raw86": bytes or "0x..."}`; raises ValueError where the runtime's type would not encode."""
    [(variant, value)] = (entry[0] if isinstance(entry, list) else entry).items()
    data = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
    named = re.fullmatch(r"Raw(\d+)", variant)
    if named is None or int(named[1]) != len(data) or len(data) > 128:
        raise ValueError(f"{variant} does not hold {len(data)} bytes")
    return data


def _refused(name: str, message: str) -> bt.ExtrinsicResult:
    return bt.ExtrinsicResult(success=False, message=message, error=bt.ChainError(message, name=name))
