"""From what a subnet holds to the leaderboard. Pure: every record becomes an entry, or is dropped for a reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.hub.errors import printable
from routing.chain.grammar import Commitment, CommitmentError
from routing.chain.records import Neuron, Record, Subnet
from routing.leaderboard import DropCode, Dropped, Entry, Snapshot, ValidatorEntry, model_key

MAX_UNREGISTERED = 256
"""Commitments of hotkeys that have left, the newest of which are told; a subnet gathers them without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which commitments count. `competition` None: those of any. `burn_uid`: whose incentive is burnt."""

    competition: str | None = None
    burn_uid: int | None = None


def assemble(subnet: Subnet, selection: Selection, *, network: str, netuid: int, taken_at: float) -> Snapshot:
    """The leaderboard of a subnet.

    Who is what: a neuron with a validator's permit is a validator, unless it has a commitment in our grammar and earns
    incentive; then it is a miner whose stake happens to win it a permit, and so it neither scores nor is lost. A
    neuron without a permit, and with a commitment, is a miner. The burn uid is never a miner.

    Of several commitments to one commit, under one name or several, the earliest counts; in one block, that of the
    lowest uid. Commitments that are dropped for themselves claim nothing. Several commits of one repository are
    versions beside each other: whose each is, `hotkey.txt` says when it is loaded, which looks at no order. Were the
    repository the first's, whoever names a stranger's would have it from the stranger's next version on.
    """
    neurons = {neuron.hotkey: neuron for neuron in subnet.neurons}
    miners = {
        record.hotkey
        for record in subnet.records
        if (neuron := neurons.get(record.hotkey)) and _is_miner(neuron, record, selection)
    }
    judged = [_judge(record, neurons, miners, subnet.block, selection) for record in subnet.records]
    claims = [outcome for outcome in judged if isinstance(outcome, _Claim)]
    dropped = [outcome for outcome in judged if isinstance(outcome, Dropped)]
    entries, late = _settle(claims)
    return Snapshot(
        source="chain",
        network=network,
        netuid=netuid,
        competition=selection.competition,
        block=subnet.block,
        taken_at=taken_at,
        entries=entries,
        validators=_validators(subnet.neurons, miners),
        dropped=_in_order(dropped, late, subnet.records),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A commitment with nothing wrong in itself."""

    neuron: Neuron
    block: int
    commitment: Commitment


def _is_miner(neuron: Neuron, record: Record, selection: Selection) -> bool:
    if neuron.uid == selection.burn_uid or not isinstance(record.commitment, Commitment):
        return False
    return not neuron.permit or neuron.incentive > 0


def _judge(
    record: Record, neurons: Mapping[str, Neuron], miners: set[str], now: int, selection: Selection
) -> _Claim | Dropped:
    neuron = neurons.get(record.hotkey)
    try:
        return _claim(record, neuron, miners, now, selection)
    except CommitmentError as error:
        return _dropped(record.hotkey, neuron, error.code, error.reason, record.commitment)


def _claim(record: Record, neuron: Neuron | None, miners: set[str], now: int, selection: Selection) -> _Claim:
    commitment = record.commitment
    if neuron is None:
        raise CommitmentError("unregistered", "its hotkey is not registered in the subnet")
    if isinstance(commitment, CommitmentError):
        raise CommitmentError(commitment.code, commitment.reason)
    if neuron.uid == selection.burn_uid:
        raise CommitmentError("burn_uid", f"uid {neuron.uid} is the one whose incentive is burnt")
    if neuron.hotkey not in miners:
        raise CommitmentError("validator", "it has a validator's permit and earns no incentive")
    _check_values(neuron, commitment, record.block, now, selection.competition)
    return _Claim(neuron=neuron, block=record.block, commitment=commitment)


def _check_values(neuron: Neuron, commitment: Commitment, block: int, now: int, competition: str | None) -> None:
    if competition is not None and commitment.competition != competition:
        there = "none" if commitment.competition is None else f"'{commitment.competition}'"
        raise CommitmentError("wrong_competition", f"its competition is {there}, not '{competition}'")
    if not 0 <= block <= now:
        raise CommitmentError("future_block", f"committed at block {block}, but the newest is {now}")
    if not 0 <= neuron.incentive <= 1:  # true of NaN too
        raise CommitmentError("invalid_value", f"its incentive is {neuron.incentive:g}; expected 0 to 1")
    if not 0 <= neuron.emission < math.inf:
        raise CommitmentError("invalid_value", f"its emission is {neuron.emission:g}; expected 0 or more")


def _settle(claims: Iterable[_Claim]) -> tuple[tuple[Entry, ...], list[Dropped]]:
    """Give each commit to the first that claims it."""
    first: dict[str, _Claim] = {}
    late: list[Dropped] = []
    for claim in sorted(claims, key=lambda claim: (claim.block, claim.neuron.uid)):
        holder = first.setdefault(claim.commitment.commit, claim)
        if holder is not claim:
            late.append(_second(claim, holder))
    return tuple(sorted(map(_entry, first.values()), key=lambda entry: entry.uid)), late


def _second(claim: _Claim, holder: _Claim) -> Dropped:
    commitment, uid = claim.commitment, holder.neuron.uid
    if commitment.model.lower() == holder.commitment.model.lower():  # the hub takes such names for the same
        reason = f"uid {uid} committed to this version of {commitment.model} before"
        return _dropped(claim.neuron.hotkey, claim.neuron, "duplicate_repository", reason, commitment)
    reason = f"uid {uid} committed to the same commit, under another name, before"
    return _dropped(claim.neuron.hotkey, claim.neuron, "reused_hash", reason, commitment)


def _entry(claim: _Claim) -> Entry:
    return Entry(
        uid=claim.neuron.uid,
        hotkey=claim.neuron.hotkey,
        model=claim.commitment.model,
        commit=claim.commitment.commit,
        block=claim.block,
        competition=claim.commitment.competition,
        incentive=claim.neuron.incentive,
        emission=claim.neuron.emission,
    )


def _dropped(
    hotkey: str, neuron: Neuron | None, code: DropCode, reason: str, commitment: Commitment | CommitmentError
) -> Dropped:
    return Dropped(
        uid=None if neuron is None else neuron.uid,
        hotkey=printable(hotkey),
        code=code,
        reason=reason,
        version=model_key(commitment.model, commitment.commit) if isinstance(commitment, Commitment) else None,
    )


def _validators(neurons: Iterable[Neuron], miners: set[str]) -> tuple[ValidatorEntry, ...]:
    return tuple(
        ValidatorEntry(uid=neuron.uid, hotkey=neuron.hotkey, stake=neuron.stake, last_update=neuron.last_update)
        for neuron in neurons
        if neuron.permit and neuron.hotkey not in miners and 0 <= neuron.stake < math.inf
    )


def _in_order(dropped: list[Dropped], late: list[Dropped], records: Iterable[Record]) -> tuple[Dropped, ...]:
    """By uid, then the newest of those without one."""
    blocks = {record.hotkey: record.block for record in records}
    registered = [one for one in (*dropped, *late) if one.uid is not None]
    left = [one for one in dropped if one.uid is None]
    registered.sort(key=lambda one: one.uid or 0)
    left.sort(key=lambda one: (-blocks.get(one.hotkey, 0), one.hotkey))
    return (*registered, *left[:MAX_UNREGISTERED])
