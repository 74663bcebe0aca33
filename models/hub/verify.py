"""Proof that files are what they must be: hashes, the digest of a whole tree, the hotkey of their owner.

A tree's digest is the sha256 of the lines that `sha256sum` prints for its files in order of their names, so that
anybody can compute it: `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError, printable
from models.hub.policy import MAGIC_BYTES, ListedFile, check_magic
from models.hub.safetensors_header import read_header
from models.weights import read_chunks

HOTKEY_FILE = "hotkey.txt"
_SS58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{46,49}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFile:
    """What a file was when it was hashed; one whose size and time are the same is not hashed again."""

    size: int
    ctime_ns: int  # which, unlike the time of modification, nobody can put back
    inode: int
    sha256: str


Record = Mapping[str, VerifiedFile]
"""Every file of a snapshot, by name."""


def tree_digest(record: Record) -> str:
    """The sha256 of a whole tree; the order in which its files were found does not matter."""
    lines = "".join(f"{record[name].sha256}  {name}\n" for name in sorted(record, key=os.fsencode))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_contents(path: Path, file: ListedFile) -> VerifiedFile:
    """Hash a file and compare it with what its source announced; check how it begins.

    Raises WeightsRefusedError that names the file and what is wrong with it.
    """
    try:
        status = path.stat()
        if status.st_size != file.size:
            raise WeightsRefusedError(file.name, f"{status.st_size} bytes where {file.size} are expected")
        with path.open("rb") as opened:
            check_magic(file.name, opened.read(MAGIC_BYTES))
        if file.name.lower().endswith(".safetensors"):
            read_header(path, name=file.name)
        sha256 = _check_hashes(path, file)
    except OSError as error:
        raise WeightsRefusedError(file.name, f"cannot be read: {error.strerror}") from None
    return VerifiedFile(size=status.st_size, ctime_ns=status.st_ctime_ns, inode=status.st_ino, sha256=sha256)


def verify_tree(directory: Path, files: Sequence[ListedFile], recorded: Record) -> dict[str, VerifiedFile]:
    """Check each file, hashing only those that are not as they were when `recorded` was made."""
    return {
        file.name: known
        if (known := recorded.get(file.name)) and unchanged(directory / file.name, known, file)
        else check_contents(directory / file.name, file)
        for file in files
    }


def unchanged(path: Path, known: VerifiedFile, file: ListedFile) -> bool:
    """Whether a file is, by size, time and inode, the one that was hashed, and that is the one expected now."""
    try:
        status = path.stat()
    except OSError:
        return False
    found = (status.st_size, status.st_ctime_ns, status.st_ino)
    return found == (known.size, known.ctime_ns, known.inode) and file.sha256 in (None, known.sha256)


def check_digest(record: Record, sha256: str | None) -> str:
    """The tree's digest; raises WeightsRefusedError where it is not the one asked for."""
    digest = tree_digest(record)
    if sha256 not in (None, digest):
        raise WeightsRefusedError("the snapshot", f"its digest is sha256={digest}, not sha256={sha256}")
    return digest


def is_address(text: str) -> bool:
    """Whether `text` has the form of an ss58 address; its checksum is not looked at."""
    return bool(_SS58.fullmatch(text))


def check_hotkey(directory: Path, hotkey: str) -> None:
    """Compare `hotkey.txt` with the ss58 address that committed to these weights.

    Raises WeightsRefusedError where the file is missing or names somebody else.
    """
    if not is_address(hotkey):
        raise WeightsRefusedError(hotkey, "not an ss58 address")
    try:
        with (directory / HOTKEY_FILE).open("rb") as file:
            found = file.read(256).decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
    except OSError:
        raise WeightsRefusedError(HOTKEY_FILE, f"missing; the hotkey {hotkey} is expected in it") from None
    if found != hotkey:
        raise WeightsRefusedError(HOTKEY_FILE, f"names {printable(found, 60)!r}, not {hotkey}")


def read_record(path: Path) -> Record | None:
    """Read what `write_record` wrote; None where there is nothing that can be used."""
    try:
        document = json.loads(path.read_bytes())
        return {name: VerifiedFile(**fields) for name, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Write a record so that a reader finds the old one or the new one, never a half.

    Raises WeightsUnavailableError where it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({name: asdict(verified) for name, verified in record.items()}, file)
            file.flush()
            os.fsync(file.fileno())  # without its record a snapshot of gigabytes is fetched again
        temporary.replace(path)
    except OSError as error:
        raise WeightsUnavailableError(str(path), f"cannot be written: {error.strerror}") from None


def _check_hashes(path: Path, file: ListedFile) -> str:
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for chunk in read_chunks(path):
        sha256.update(chunk)
        if file.git_sha1:
            git.update(chunk)
    if file.sha256 not in (None, sha256.hexdigest()):
        raise WeightsRefusedError(file.name, f"sha256 {sha256.hexdigest()} where {file.sha256} is expected")
    if file.git_sha1 not in (None, git.hexdigest()):
        raise WeightsRefusedError(file.name, f"git hash {git.hexdigest()} where {file.git_sha1} is expected")
    return sha256.hexdigest()
