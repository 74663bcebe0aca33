"""What a miner writes on chain: `namespace:name:epoch:commit:hash:competition`, at most 128 bytes.

`commit` is 40 lower-case hex digits, `hash` ties the other parts together (`commitment_hash`), and the literal `None`
stands for no competition, as does a missing sixth part. Subnet 21's grammar, read strictly: what could be read in two
ways is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from models.hub.errors import printable
from models.hub.ref import is_repository
from routing.leaderboard import DropCode
from streaming.errors import MuseError

MAX_BYTES = 128
"""What the chain takes as one field."""

MAX_REPOSITORY = 38
"""Characters of `namespace/name`: what subnet 21 leaves of the 128 bytes."""

FORM = "namespace:name:epoch:commit:hash:competition"

_NULL = "None"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"0|[1-9][0-9]{0,19}")
_LIKE_A_COMMIT = re.compile(r"[0-9A-Fa-f]{40}|None")
_LIKE_A_HASH = re.compile(r"[0-9]{1,20}|None")


class CommitmentError(MuseError):
    """A commitment that is refused. `reason` is safe to show."""

    def __init__(self, code: DropCode, reason: str) -> None:
        super().__init__(reason)
        self.code: DropCode = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """A model that a miner stands for. `hash` is what the miner wrote; `parse` has checked it."""

    namespace: str
    name: str
    epoch: str
    commit: str
    hash: int
    competition: str | None

    @property
    def model(self) -> str:
        """The repository, `namespace/name`."""
        return f"{self.namespace}/{self.name}"


def commitment_hash(*, namespace: str, name: str, epoch: str, competition: str | None) -> int:
    """The first 64 bits of the SHA-256 of `namespace name epoch competition`."""
    text = f"{namespace} {name} {epoch} {competition or _NULL}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


def new_commitment(*, model: str, epoch: str, commit: str, competition: str | None) -> Commitment:
    """The commitment to one commit of `model` (`namespace/name`).

    Raises CommitmentError where `parse` would refuse it.
    """
    _check_word("epoch", epoch)
    if competition is not None:
        _check_word("competition", competition)
    namespace, _, name = model.partition("/")
    digest = commitment_hash(namespace=namespace, name=name, epoch=epoch, competition=competition)
    return parse(
        format_commitment(
            Commitment(namespace=namespace, name=name, epoch=epoch, commit=commit, hash=digest, competition=competition)
        )
    )


def format_commitment(commitment: Commitment) -> str:
    """As it is written on chain, in six parts; `parse` reads it back."""
    return ":".join(
        (
            commitment.namespace,
            commitment.name,
            commitment.epoch,
            commitment.commit,
            str(commitment.hash),
            commitment.competition or _NULL,
        )
    )


def parse(text: str) -> Commitment:
    """Read what a miner wrote.

    Raises CommitmentError: `foreign` for what does not resemble the grammar, `malformed` for what does and breaks it,
    `wrong_hash` for a hash that is not that of its other parts.
    """
    parts = text.split(":")
    _check_resemblance(text, parts)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise CommitmentError("malformed", f"is longer than {MAX_BYTES} bytes")
    if len(parts) not in (5, 6):
        raise CommitmentError("malformed", f"has {len(parts)} parts; expected {FORM}")
    namespace, name, epoch, commit, digest = parts[:5]
    competition = parts[5] if len(parts) == 6 else _NULL
    _check_repository(f"{namespace}/{name}")
    _check_word("epoch", epoch)
    if commit == _NULL:
        raise CommitmentError("malformed", "names no commit; a model is pinned by the 40 hex digits of one")
    if not _COMMIT.fullmatch(commit):
        raise CommitmentError("malformed", f"its commit is {_shown(commit)}; expected 40 lower-case hex digits")
    if competition != _NULL:
        _check_word("competition", competition)
    return Commitment(
        namespace=namespace,
        name=name,
        epoch=epoch,
        commit=commit,
        hash=_checked_hash(digest, namespace=namespace, name=name, epoch=epoch, competition=competition),
        competition=None if competition == _NULL else competition,
    )


def _check_resemblance(text: str, parts: list[str]) -> None:
    if not text:
        raise CommitmentError("malformed", "is empty")
    like_ours = (len(parts) > 3 and _LIKE_A_COMMIT.fullmatch(parts[3])) or (
        len(parts) > 4 and _LIKE_A_HASH.fullmatch(parts[4])
    )
    if not like_ours:
        raise CommitmentError("foreign", f"{_shown(text)} is in another grammar than {FORM}")


def _check_word(name: str, text: str) -> None:
    if text == _NULL or not _WORD.fullmatch(text):
        raise CommitmentError(
            "malformed", f"its {name} is {_shown(text)}; expected letters, digits, and . _ -, at most 16"
        )


def _check_repository(model: str) -> None:
    if not is_repository(model):
        raise CommitmentError("malformed", f"{_shown(model)} is not the name of a repository")
    if len(model) > MAX_REPOSITORY:
        raise CommitmentError(
            "malformed", f"its repository {_shown(model)} has {len(model)} characters; at most {MAX_REPOSITORY}"
        )


def _checked_hash(text: str, *, namespace: str, name: str, epoch: str, competition: str) -> int:
    if text == _NULL:
        raise CommitmentError("wrong_hash", "carries no hash")
    if not _HASH.fullmatch(text):
        raise CommitmentError("malformed", f"its hash is {_shown(text)}; expected a decimal number below 2^64")
    expected = commitment_hash(namespace=namespace, name=name, epoch=epoch, competition=competition)
    if int(text) != expected:
        raise CommitmentError("wrong_hash", f"its hash is {text} where {expected} is expected")
    return expected


def _shown(text: str) -> str:
    return f"'{printable(text, 60)}'"
