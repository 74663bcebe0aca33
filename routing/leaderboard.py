"""What the chain says of the models: who made which, and what it earns. A snapshot of it is what the router goes by.

The other layer, the scores that validators measured, is joined to it in `routing.policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{46,50}")


def is_address(text: str) -> bool:
    """Whether it has the form of an ss58 address."""
    return bool(_ADDRESS.fullmatch(text))


def model_key(model: str, commit: str | None) -> str:
    """The name of one version of a model, under which it is scored and served: `namespace/name@commit`."""
    return model if commit is None else f"{model}@{commit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model on the leaderboard.

    `model`: the repository, `namespace/name`, or the name of a model that comes with Muse. `commit`: 40 hex digits;
    None for what comes with Muse. The two together, the version, are unique in a snapshot. `hotkey`: who claims it, an
    ss58 address, and what `hotkey.txt` must hold when it is loaded; None where nobody mined it. `block`: when it was
    committed. `incentive`: its share of what miners earn, 0 to 1. `emission`: alpha tokens an epoch.
    """

    uid: int
    hotkey: str | None
    model: str
    commit: str | None
    block: int
    competition: str | None
    incentive: float
    emission: float = 0.0

    @property
    def key(self) -> str:
        """See `model_key`."""
        return model_key(self.model, self.commit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorEntry:
    """A neuron that may set weights. `stake` is in alpha tokens; `last_update` the block of its last weights."""

    uid: int
    hotkey: str
    stake: float
    last_update: int


DropCode = Literal[
    "malformed",  # not in the grammar
    "foreign",  # in somebody else's grammar
    "sealed",  # not readable yet, or never
    "wrong_competition",
    "wrong_hash",
    "duplicate_repository",
    "reused_hash",
    "future_block",
    "unregistered",
    "burn_uid",
    "validator",
    "invalid_value",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A commitment that is not on the leaderboard, and why.

    `reason` is safe to show: what strangers wrote is escaped. `version`: of which model (`model_key`), where that could
    be read.
    """

    uid: int | None
    hotkey: str
    code: DropCode
    reason: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The leaderboard at one block. `taken_at` is Unix time in seconds; entries are in order of their uids."""

    source: Literal["chain", "file"]
    network: str
    netuid: int
    competition: str | None
    block: int
    taken_at: float
    entries: tuple[Entry, ...]
    validators: tuple[ValidatorEntry, ...] = ()
    dropped: tuple[Dropped, ...] = ()

    def by_key(self) -> Mapping[str, Entry]:
        """The entries by their keys."""
        return {entry.key: entry for entry in self.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """How a source of snapshots is doing. `problem` says why the last attempt brought none; None where it did.

    `snapshot` is the last good one; None where there has never been any. `stale`: older than the operator allows.
    """

    snapshot: Snapshot | None
    age: float | None  # seconds since it was taken
    stale: bool
    problem: str | None
    failures: int = 0  # attempts that failed since the last good one
