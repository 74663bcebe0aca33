"""Download model files: wheels with pinned hashes, opened as archives, never installed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.weights import ModelFile, Package, Part, read_chunks, sha256
from streaming.errors import MuseError

Report = Callable[[str], None]
"""Takes one line that says what is being done."""

Download = Callable[[Package, Path], Path]
"""Bring a package's wheel into a directory and return its path; raises FetchError."""

_CHUNK = 1 << 20
_SCRATCH = ".fetch-"


class FetchError(MuseError):
    """A file or package could not be had, or was not what it should be."""


def is_complete(file: ModelFile, directory: Path) -> bool:
    """Whether `directory` holds the file, unaltered."""
    path = directory / file.path
    return path.is_file() and path.stat().st_size == file.size and sha256(read_chunks(path)) == file.sha256


def pip_download(package: Package, directory: Path) -> Path:
    """Download a package's wheel with pip, which verifies its sha256. Nothing of it is installed or run.

    Raises FetchError.
    """
    requirement = directory / f"{package.name}.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}\n")
    target = directory / package.name
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(target), "-r", str(requirement)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(target.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise FetchError(f"{package.name} {package.version}: {_reason(result.stderr or result.stdout)}")
    return wheels[0]


def _reason(said: str) -> str:
    """What pip says of the connection, if that was broken, and of what it came to; a hint often follows them."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    broken = [line for line in lines if "connection broken" in line]
    errors = [line for line in lines if line.startswith(("ERROR:", "\N{MULTIPLICATION SIGN}"))]
    return "; ".join(broken[-1:] + (errors or lines)[-1:]) or "pip gave no wheel"


def fetch(
    files: Iterable[ModelFile], directory: Path, *, report: Report, download: Download = pip_download
) -> list[ModelFile]:
    """Bring those of `files` into `directory` that it does not hold, and return them.

    A file appears under its name only when it is whole and verified, so an interrupted run leaves nothing false
    behind, and another completes it. One run at a time fills a directory; another waits, and takes what it finds.
    Raises FetchError where no source gives a file.
    """
    missing = [file for file in files if not is_complete(file, directory)]
    if not missing:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory, report), tempfile.TemporaryDirectory(dir=directory, prefix=_SCRATCH) as scratch:
        missing = [file for file in missing if not is_complete(file, directory)]
        wheels = _Wheels(Path(scratch), report, download)
        for file in missing:
            _fetch_file(file, directory, Path(scratch), wheels)
            report(f"{file.path}: verified")
    return missing


@contextmanager
def _alone(directory: Path, report: Report) -> Iterator[None]:
    """Hold the directory, and clear away what a run has left that was killed."""
    held = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another run fills {directory}; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError:
            pass  # a filesystem without locks
        for left in directory.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(held)


class _Wheels:
    """The wheels of one run; each is downloaded when it is first needed, and tried once."""

    def __init__(self, directory: Path, report: Report, download: Download) -> None:
        self._directory = directory
        self._report = report
        self._download = download
        self._found: dict[Package, Path | FetchError] = {}

    def get(self, package: Package) -> Path:
        if package not in self._found:
            self._report(f"downloading {package.name} {package.version}")
            try:
                self._found[package] = self._download(package, self._directory)
            except FetchError as error:
                self._found[package] = error
        found = self._found[package]
        if isinstance(found, FetchError):
            raise found
        return found


def _fetch_file(file: ModelFile, directory: Path, scratch: Path, wheels: _Wheels) -> None:
    failures = []
    for parts in file.sources:
        partial = scratch / "partial"
        try:
            with partial.open("wb") as output:
                found = _join(parts, output, wheels, limit=file.size)
        except FetchError as error:
            failures.append(str(error))
            continue
        if found != file.sha256:
            failures.append(f"{parts[0].package.name}: sha256 {found}, not {file.sha256}")
            continue
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, target)
        return
    raise FetchError(f"{file.path}: no source gave it ({'; '.join(failures)})")


def _join(parts: Iterable[Part], output: BinaryIO, wheels: _Wheels, *, limit: int) -> str:
    """Write the parts to `output`, at most `limit` bytes, and return the sha256 of what was written."""
    digest = hashlib.sha256()
    for part in parts:
        try:
            with zipfile.ZipFile(wheels.get(part.package)) as wheel, wheel.open(part.member) as member:
                while chunk := member.read(_CHUNK):
                    limit -= len(chunk)
                    if limit < 0:
                        raise FetchError(f"{part.package.name}: {part.member} is larger than it should be")
                    digest.update(chunk)
                    output.write(chunk)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"{part.package.name}: {error}") from error
    return digest.hexdigest()
