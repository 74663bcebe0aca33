"""References to weights: `namespace/name@<commit>[#sha256=<digest>]`, or a local directory.

Only a full commit is taken. A branch or a tag is whatever its owner makes of it tomorrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.hub.errors import WeightsRefusedError, printable

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORM = "namespace/name@<40 hex digits of a commit>[#sha256=<digest>], /directory, ./directory or file:directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRef:
    """A repository of models on the hub, at one commit. `sha256` is the digest of its tree (`verify.tree_digest`)."""

    repository: str
    commit: str
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}{_suffix(self.sha256)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRef:
    """A directory on this machine."""

    directory: Path
    sha256: str | None = None

    def __str__(self) -> str:
        return f"file:{self.directory}{_suffix(self.sha256)}"


def parse_ref(text: str) -> HubRef | LocalRef:
    """Read a reference.

    Raises WeightsRefusedError that says what is wrong with one that is not well-formed, or not pinned.
    """
    if len(text) > 4096 or not text.isprintable():
        raise WeightsRefusedError(text, f"not a reference to weights; expected {_FORM}")
    body, mark, fragment = text.partition("#")
    sha256 = _digest(text, fragment) if mark else None
    if body.startswith(("/", "./", "file:")):
        return _local(text, body.removeprefix("file:"), sha256)
    repository, mark, commit = body.partition("@")
    if not is_repository(repository):
        raise WeightsRefusedError(text, f"not the name of a repository; expected {_FORM}")
    if not mark:
        remedy = f"`python -m models hub pin {repository}` prints one"
        raise WeightsRefusedError(text, f"not pinned: name a commit, {repository}@<40 hex digits>; {remedy}")
    if not _COMMIT.fullmatch(commit):
        raise WeightsRefusedError(
            text, f"not pinned: {printable(commit)!r} is a branch, a tag or a short commit; expected 40 hex digits"
        )
    return HubRef(repository=repository, commit=commit, sha256=sha256)


def is_repository(text: str) -> bool:
    """Whether `text` has the form of a repository's name, `namespace/name`."""
    return bool(_REPOSITORY.fullmatch(text)) and ".." not in text and "--" not in text


def parse_digest(text: str) -> str:
    """A sha256 in hex, as given; raises WeightsRefusedError for anything else."""
    if not _SHA256.fullmatch(text):
        raise WeightsRefusedError(text, "not a sha256: expected 64 lower-case hex digits")
    return text


def _digest(text: str, fragment: str) -> str:
    if not fragment.startswith("sha256="):
        raise WeightsRefusedError(text, "after # comes sha256=<64 hex digits>")
    return parse_digest(fragment.removeprefix("sha256="))


def _local(text: str, path: str, sha256: str | None) -> LocalRef:
    if not path or path.startswith("//") or ".." in Path(path).parts:
        raise WeightsRefusedError(text, "not a directory: expected file:directory, without `..`")
    return LocalRef(directory=Path(path), sha256=sha256)


def _suffix(sha256: str | None) -> str:
    return f"#sha256={sha256}" if sha256 else ""
