"""The leaderboard as a file: JSON, versioned, with a hash of its content.

    {"format": "muse-leaderboard", "version": 1, "sha256": "...", "snapshot": {"source": "chain", ...}}

`snapshot` has the fields of `leaderboard.Snapshot`. `sha256` is that of the snapshot written with sorted keys and no
white space, so that the file may be indented at will; a file that is written by hand leaves it out, and nothing vouches
for it then but its owner.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.hub.errors import printable
from models.hub.ref import is_repository
from routing.leaderboard import Entry, Snapshot, is_address
from streaming.errors import EngineError, PeerError
from streaming.schema import from_json, to_json

MAX_BYTES = 8 * 2**20
"""More than any subnet makes."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_BUILT_IN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class SnapshotFileError(EngineError):
    """A snapshot's file cannot be read, used or written. The message names the file and the fault.

    `public` says the same without the directory, fit to show.
    """

    def __init__(self, path: Path, fault: str) -> None:
        fault = printable(fault, 300)
        super().__init__(f"{path}: {fault}", code="snapshot_file")
        self.public = f"{path.name}: {fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    format: Literal["muse-leaderboard"]
    version: Literal[1]
    snapshot: Snapshot
    sha256: str | None = None


def read(path: Path) -> Snapshot:
    """Read a snapshot; its entries come in order of their uids.

    Raises SnapshotFileError naming what is wrong with it, by its path in the file.
    """
    document = _parse(path, _bounded(path))
    try:
        decoded = from_json(_Document, document, path="")
    except PeerError as error:
        fault = error.message if error.param else f"the document: {error.message}"
        raise SnapshotFileError(path, fault) from None
    expected = _digest(document["snapshot"])
    if decoded.sha256 not in (None, expected):
        raise SnapshotFileError(path, "its sha256 is not that of its snapshot; a file changed by hand leaves it out")
    for fault in _faults(decoded.snapshot):
        raise SnapshotFileError(path, fault)
    entries = sorted(decoded.snapshot.entries, key=lambda entry: entry.uid)
    return replace(decoded.snapshot, entries=tuple(entries))


def write(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot so that a reader, after a crash too, finds the old file or the new one, never a half.

    Raises SnapshotFileError where it cannot be written.
    """
    content = to_json(snapshot)
    document = {"format": "muse-leaderboard", "version": 1, "sha256": _digest(content), "snapshot": content}
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            json.dump(document, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_directory(path.parent)
    except (OSError, ValueError) as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SnapshotFileError(path, f"cannot be written: {reason}") from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bounded(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make us wait
            raise SnapshotFileError(path, "is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SnapshotFileError(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SnapshotFileError(path, f"is larger than {MAX_BYTES} bytes")
    return data


def _parse(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError:
        raise SnapshotFileError(path, "is not text in UTF-8") from None
    except RecursionError:
        raise SnapshotFileError(path, "is nested too deeply") from None
    except ValueError as error:
        raise SnapshotFileError(path, f"is not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return values


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _is_model(entry: Entry) -> bool:
    return is_repository(entry.model) or bool(_BUILT_IN.fullmatch(entry.model))


_CHECKS: tuple[tuple[str, Callable[[Entry], bool], str], ...] = (
    ("uid", lambda entry: 0 <= entry.uid <= 65535, "expected 0 to 65535"),
    ("model", _is_model, "expected namespace/name, or the name of a model that comes with Muse"),
    ("commit", lambda entry: entry.commit is None or bool(_COMMIT.fullmatch(entry.commit)), "expected 40 hex digits"),
    ("commit", lambda entry: (entry.commit is None) is ("/" not in entry.model), "expected with a repository, only"),
    (
        "hotkey",
        lambda entry: entry.hotkey is None or is_address(entry.hotkey),
        "expected an ss58 address",
    ),
    ("block", lambda entry: entry.block >= 0, "expected 0 or more"),
    ("incentive", lambda entry: 0 <= entry.incentive <= 1, "expected 0 to 1"),
    ("emission", lambda entry: entry.emission >= 0, "expected 0 or more"),
)


def _texts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """The free texts, and where they are."""
    yield "network", snapshot.network
    yield "competition", snapshot.competition or ""
    for index, entry in enumerate(snapshot.entries):
        yield f"entries[{index}].competition", entry.competition or ""
    for index, dropped in enumerate(snapshot.dropped):
        for name in ("hotkey", "reason", "version"):
            yield f"dropped[{index}].{name}", getattr(dropped, name) or ""


def _faults(snapshot: Snapshot) -> Iterator[str]:
    """What is well-formed and cannot be meant."""
    seen: dict[object, int] = {}
    for index, entry in enumerate(snapshot.entries):
        at = f"snapshot.entries[{index}]"
        for name, holds, expected in _CHECKS:
            if not holds(entry):
                yield f"{at}.{name}: {expected}"
        for name, value in (("uid", entry.uid), ("model", entry.key.lower())):
            if seen.setdefault(value, index) != index:
                yield f"{at}.{name}: is that of entries[{seen[value]}]"
    if not 0 <= snapshot.netuid <= 65535:
        yield "snapshot.netuid: expected 0 to 65535"
    if snapshot.block < 0:
        yield "snapshot.block: expected 0 or more"
    if snapshot.taken_at < 0:
        yield "snapshot.taken_at: expected a Unix time in seconds"
    yield from _faults_beside(snapshot)


def _faults_beside(snapshot: Snapshot) -> Iterator[str]:
    """Of what is beside the models."""
    for index, validator in enumerate(snapshot.validators):
        at = f"snapshot.validators[{index}]"
        if not is_address(validator.hotkey):
            yield f"{at}.hotkey: expected an ss58 address"
        if validator.stake < 0:
            yield f"{at}.stake: expected 0 or more"
    for name, text in _texts(snapshot):
        if not text.isprintable():  # it is shown on terminals
            yield f"snapshot.{name}: expected printable text"
