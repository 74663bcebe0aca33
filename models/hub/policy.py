"""Which files are taken, which are passed over, and which make the whole repository refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from models.hub.errors import WeightsRefusedError
from models.hub.safetensors_header import MAX_HEADER_BYTES
from models.hub.settings import HubSettings

_TAKEN = frozenset({".safetensors", ".json", ".yaml", ".yml", ".model", ".txt", ".wav", ".md"})
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"})
_CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe"})
_COMPONENT = re.compile(r"[A-Za-z0-9._+@=-]{1,128}")
MAX_DEPTH = 4

# What a file may not start with, whatever it is called. Pickles of protocol 0 and 1 have no mark of their own: a
# file of text is never given to a reader of pickles.
_MAGIC = {
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a program",
}
MAGIC_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file as its source announces it: `size` in bytes, and the hash that its contents must have.

    `sha256` is known for large files (LFS) only, `git_sha1` (of git's blob) for the others.
    """

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


def choose(listing: Iterable[ListedFile], settings: HubSettings) -> tuple[ListedFile, ...]:
    """The files to take of all that a source lists, in order of their names; nothing has been fetched yet.

    Hidden files and files of other kinds (pictures, archives) are left where they are. Raises WeightsRefusedError
    for a name that leaves the tree, a pickle or code by name, two names of one place, and for what exceeds a limit.
    """
    chosen: dict[str, ListedFile] = {}
    for fault in sift(listing, settings, chosen):
        raise fault
    return tuple(chosen[name] for name in sorted(chosen))


def sift(
    listing: Iterable[ListedFile], settings: HubSettings, chosen: dict[str, ListedFile]
) -> Iterator[WeightsRefusedError]:
    """Put the files to take into `chosen`, by name, and yield each fault that `choose` would raise, in its order."""
    for count, file in enumerate(listing, start=1):
        if count > settings.max_files:
            yield WeightsRefusedError(file.name, f"one file too many: at most {settings.max_files} are taken")
            break
        if file.name in chosen:
            yield WeightsRefusedError(file.name, "listed twice")
            continue
        try:
            if is_taken(file.name):
                _check_size(file, settings)
                chosen[file.name] = file
        except WeightsRefusedError as fault:
            yield fault
    if not any(name.endswith(".safetensors") for name in chosen):
        yield WeightsRefusedError("*.safetensors", "there is none: weights are taken as safetensors only")
    yield from _clashes(sorted(chosen))
    total = sum(file.size for file in chosen.values())
    if total > settings.max_total_bytes:
        yield WeightsRefusedError(
            "the snapshot", f"too large: {total} bytes in all, at most {settings.max_total_bytes} are taken"
        )


def is_taken(name: str) -> bool:
    """Whether a file of this name is wanted; raises WeightsRefusedError if it must not be there at all."""
    path = PurePosixPath(name)
    if name != str(path) or path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise WeightsRefusedError(name, "not a path inside the repository")
    if any(part.startswith(".") for part in path.parts):
        return False
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise WeightsRefusedError(name, "a pickle by its name: weights are taken as safetensors only")
    if suffix in _CODE:
        raise WeightsRefusedError(name, "code by its name: a repository of weights has none")
    if suffix not in _TAKEN:
        return False
    if len(path.parts) > MAX_DEPTH or not all(_COMPONENT.fullmatch(part) for part in path.parts):
        raise WeightsRefusedError(name, f"a name of plain characters, at most {MAX_DEPTH} folders deep, is expected")
    return True


def check_magic(name: str, head: bytes) -> None:
    """Refuse a file by its first `MAGIC_BYTES`, whatever its name.

    A safetensors header of 640 bytes begins with a pickle's mark. It is told apart by the rest of its length, which
    is no pickle's opcode, and by the brace that follows.
    """
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        return
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise WeightsRefusedError(name, f"{kind} by its first bytes: it is not opened")


def _clashes(names: Sequence[str]) -> Iterator[WeightsRefusedError]:
    """Names that are one place on a disk that takes capitals for small letters, or a file and a folder."""
    folders = {str(folder).casefold() for name in names for folder in PurePosixPath(name).parents}
    files: set[str] = set()
    for name in names:
        place = name.casefold()
        if place in files:
            yield WeightsRefusedError(name, "listed twice, but for capitals")
        if place in folders:
            yield WeightsRefusedError(name, "also a folder")
        files.add(place)


def _check_size(file: ListedFile, settings: HubSettings) -> None:
    weights = file.name.lower().endswith(".safetensors")
    limit = settings.max_file_bytes if weights else min(settings.max_small_file_bytes, settings.max_file_bytes)
    if not 0 <= file.size <= limit:
        raise WeightsRefusedError(file.name, f"too large: {file.size} bytes, at most {limit} are taken")
