"""What would be refused of a model before it is anywhere but on its miner's disk. No network, no torch.

The code is that which refuses it later: the hub's policy, the worker's loader, the grammar of commitments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.hub.audit import audit
from models.hub.errors import printable
from models.hub.ref import is_repository
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot
from models.moshi.check import checkpoint_faults
from routing.chain.grammar import Commitment, CommitmentError, format_commitment, new_commitment

NO_COMMIT = "0" * 40
"""Stands for a commit that is not known yet; it is as long as one."""

_SHOWN_COMMIT = "<commit>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that is to be registered. `hotkey`: an ss58 address; None where the wallet cannot be read."""

    directory: Path
    repository: str
    epoch: str
    competition: str | None
    hotkey: str | None

    def commitment(self, commit: str) -> Commitment:
        """The commitment to it at a commit of its repository. Raises CommitmentError where it would be refused."""
        return new_commitment(model=self.repository, epoch=self.epoch, commit=commit, competition=self.competition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """`problems`: all reasons to refuse it. `weights`: None where its files are refused. `commitment`: see `shown`."""

    problems: tuple[str, ...]
    weights: Snapshot | None
    commitment: str | None


def inspect(candidate: Candidate, settings: HubSettings) -> Inspection:
    """Check the directory as hub and worker would, and that the commitment can be written."""
    found = audit(candidate.directory, settings, hotkey=candidate.hotkey)
    problems = [fault.message for fault in found.faults]
    if candidate.directory.is_dir():
        problems += [fault.message for fault in checkpoint_faults(candidate.directory)]
    faults = _commitment_faults(candidate)
    return Inspection(
        problems=tuple(dict.fromkeys((*problems, *faults))),  # two readers of one file may say the same
        weights=found.snapshot,
        commitment=None if faults else shown(candidate.commitment(NO_COMMIT)),
    )


def shown(commitment: Commitment) -> str:
    """As it is written on chain; a commit that is not known is `<commit>`."""
    return format_commitment(commitment).replace(NO_COMMIT, _SHOWN_COMMIT)


def _commitment_faults(candidate: Candidate) -> list[str]:
    """Of each part by itself, else of the whole, which may be too long."""
    if not is_repository(candidate.repository):
        return [f"--repository: {printable(candidate.repository)!r}; expected namespace/name, without a commit"]
    sound = {"model": "a/b", "epoch": "1", "competition": None}
    parts = {"model": candidate.repository, "epoch": candidate.epoch, "competition": candidate.competition}
    faults = [_commitment_fault(**{**sound, name: value}) for name, value in parts.items()]
    if not any(faults):
        faults = [_commitment_fault(**parts)]
    return [f"commitment: {fault}" for fault in faults if fault]


def _commitment_fault(**parts: Any) -> str | None:
    try:
        new_commitment(commit=NO_COMMIT, **parts)
    except CommitmentError as error:
        return error.reason
    return None
