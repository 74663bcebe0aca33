"""What a subnet holds, as the chain gives it: neurons, and each hotkey's commitment, read one by one.

A record that makes no sense is refused by itself. The SDK's own reading of all commitments at once stops at the first
that it cannot decode, and any miner can write one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from models.hub.errors import printable
from routing.chain.grammar import Commitment, CommitmentError, parse

_NONSENSE = (LookupError, TypeError, ValueError, OverflowError)
"""What comes of reading something that is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron:
    """One place in the subnet. `incentive` 0 to 1; `emission` (an epoch) and `stake` in alpha; unchecked."""

    uid: int
    hotkey: str
    incentive: float
    emission: float
    stake: float
    permit: bool
    last_update: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a hotkey, registered or not, has committed and when; or why that cannot be read."""

    hotkey: str
    block: int
    commitment: Commitment | CommitmentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet at one block. `time`: the block's own, Unix s."""

    name: str
    block: int
    time: float
    neurons: tuple[Neuron, ...]
    records: tuple[Record, ...]


def read_records(committed: Iterable[tuple[Any, Any]], revealed: Iterable[tuple[Any, Any]]) -> tuple[Record, ...]:
    """The records of the maps `CommitmentOf` and `RevealedCommitments`, decoded as the SDK's transport does.

    A sealed commitment that has been opened since counts from the block of its opening: the chain forgets when it was
    made. Never raises for what is in a record.
    """
    opened = {str(hotkey): entries for hotkey, entries in revealed}
    records = [_read_record(str(hotkey), value, opened.pop(str(hotkey), ())) for hotkey, value in committed]
    records += [_read_opened(hotkey, entries) for hotkey, entries in opened.items() if entries]
    return tuple(records)


def _read_record(hotkey: str, value: Any, opened: Any) -> Record:
    try:
        block = int(value["block"])
        fields = list(value["info"]["fields"])
    except _NONSENSE:
        return Record(hotkey=hotkey, block=0, commitment=_unreadable("its record has neither block nor fields"))
    try:
        return Record(hotkey=hotkey, block=block, commitment=parse(_plain_text(fields)))
    except CommitmentError as error:
        if error.code == "sealed" and opened:
            record = _read_opened(hotkey, opened)
            if record.block >= block:
                return record
        return Record(hotkey=hotkey, block=block, commitment=error)


def _plain_text(fields: list[Any]) -> str:
    """The text of a commitment's one field, which looks like `{"Raw3": "0x616263"}`."""
    if len(fields) != 1:
        raise _unreadable(f"has {len(fields)} fields where one is expected")
    if not isinstance(fields[0], Mapping) or len(fields[0]) != 1:
        raise _unreadable("is empty")
    [(variant, value)] = fields[0].items()
    if variant in ("TimelockEncrypted", "TimelockRevealFailed"):
        opening = value.get("reveal_round") if isinstance(value, Mapping) else None
        when = (
            f"until round {opening} of drand" if variant == "TimelockEncrypted" else "for good: it could not be opened"
        )
        raise CommitmentError("sealed", f"is sealed {printable(when)}")
    if not str(variant).startswith("Raw") or not isinstance(value, str):
        raise CommitmentError("foreign", f"is a {printable(str(variant), 40)}, not text")
    try:
        return bytes.fromhex(value.removeprefix("0x")).decode()
    except ValueError:
        raise CommitmentError("foreign", "is not text") from None


def _read_opened(hotkey: str, entries: Any) -> Record:
    try:
        data, block = max(entries, key=lambda entry: int(entry[1]))
        text = _opened_text(data)
        block = int(block)
    except _NONSENSE:
        return Record(hotkey=hotkey, block=0, commitment=_unreadable("was opened, and is not text"))
    try:
        return Record(hotkey=hotkey, block=block, commitment=parse(text))
    except CommitmentError as error:
        return Record(hotkey=hotkey, block=block, commitment=error)


def _opened_text(data: Any) -> str:
    """The text behind its SCALE length. The transport gives bytes that are text as such, others in hex after `0x`."""
    raw = data if isinstance(data, bytes) else str(data).encode()
    if raw.startswith(b"0x"):
        with suppress(ValueError):  # text of 12 bytes looks so too: its length is written as the character 0
            raw = bytes.fromhex(raw[2:].decode())
    prefix = (1, 2, 4)[raw[0] & 3]  # IndexError for nothing, and for lengths that no commitment has
    if int.from_bytes(raw[:prefix], "little") >> 2 != len(raw) - prefix:
        raise ValueError("not of its stated length")
    return raw[prefix:].decode()


def _unreadable(reason: str) -> CommitmentError:
    return CommitmentError("malformed", reason)
