"""Model files, identified by sha256: where they are looked for, and the check that each is what it must be.

`weights.toml` lists every file. One is looked for in a local directory (`<directory>/<model>/<file>`, which
`python -m models fetch` fills), then in an installed package; a package is read as data and never imported.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from streaming.errors import EngineError

DEFAULT_DIRECTORY = Path(".models")
_MANIFEST = Path(__file__).with_name("weights.toml")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A distribution on a package index, and the one wheel of it that is taken."""

    name: str
    version: str
    wheel_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One member of a package's wheel: a whole file, or a piece of one."""

    package: Package
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model. Each of `sources` gives the whole file: its parts, joined end to end."""

    model: str
    name: str
    size: int
    sha256: str
    sources: tuple[tuple[Part, ...], ...]

    @property
    def path(self) -> Path:
        """Where the file lies, relative to the weights' directory."""
        return Path(self.model, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The files of one model, their licence and where they were first published."""

    name: str
    purpose: str
    licence: str
    upstream: str
    optional: bool
    files: Mapping[str, ModelFile]


def read_manifest(path: Path = _MANIFEST) -> dict[str, Model]:
    """Read the models that `path` lists, by name.

    Raises KeyError or ValueError where the manifest is not well-formed.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    packages = {name: Package(name=name, **fields) for name, fields in document["packages"].items()}

    def part(source: str) -> Part:
        package, _, member = source.partition(":")
        return Part(package=packages[package], member=member)

    models = {}
    for name, fields in document["models"].items():
        files = [
            ModelFile(
                model=name,
                name=file["name"],
                size=file["size"],
                sha256=file["sha256"],
                sources=tuple(tuple(map(part, parts)) for parts in file["sources"]),
            )
            for file in fields["files"]
        ]
        models[name] = Model(
            name=name,
            purpose=fields["purpose"],
            licence=fields["licence"],
            upstream=fields["upstream"],
            optional=fields.get("optional", False),
            files=MappingProxyType({file.name: file for file in files}),
        )
    return models


def sha256(chunks: Iterator[bytes]) -> str:
    """The hex digest of what `chunks` join to."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes, a megabyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


class Weights:
    """Verified access to the files of a manifest's models."""

    def __init__(self, directory: Path = DEFAULT_DIRECTORY, manifest: Mapping[str, Model] | None = None) -> None:
        self._directory = directory
        self._manifest = read_manifest() if manifest is None else manifest

    def read(self, model: str, name: str) -> bytes:
        """The file's contents, hashed after they were read, so that what is used is what was verified.

        Raises EngineError where the file is missing or is not the one that the manifest names.
        """
        file = self._file(model, name)
        data = b"".join(path.read_bytes() for path in self._locate(file))
        self._check(file, sha256(iter((data,))))
        return data

    def path(self, model: str, name: str) -> Path:
        """The file's place on disk, its contents verified now; for libraries that map files themselves.

        Raises EngineError where the file is missing, altered, or installed only in parts.
        """
        file = self._file(model, name)
        paths = self._locate(file)
        if len(paths) > 1:
            raise EngineError(
                f"{file.path} is installed in {len(paths)} parts; join them with {_remedy(file)}",
                code="weights_missing",
            )
        self._check(file, sha256(read_chunks(paths[0])))
        return paths[0]

    def _file(self, model: str, name: str) -> ModelFile:
        try:
            return self._manifest[model].files[name]
        except KeyError:
            raise EngineError(f"no model file {model}/{name} in the manifest", code="weights_missing") from None

    def _locate(self, file: ModelFile) -> list[Path]:
        local = self._directory / file.path
        if local.is_file():
            return [local]
        for parts in file.sources:
            paths = [path for part in parts if (path := _installed(part)) is not None]
            if len(paths) == len(parts):
                return paths
        raise EngineError(
            f"model file {file.path} (sha256 {file.sha256}) was not found: none in {self._directory}, "
            f"nor in an installed package; run {_remedy(file)}",
            code="weights_missing",
        )

    @staticmethod
    def _check(file: ModelFile, found: str) -> None:
        if found != file.sha256:
            raise EngineError(
                f"model file {file.path} is not the one expected: sha256 {found}, not {file.sha256}; "
                f"run {_remedy(file)}",
                code="weights_altered",
            )


def _remedy(file: ModelFile) -> str:
    return f"`python -m models fetch {file.model}`"


def _installed(part: Part) -> Path | None:
    """Where an installed package keeps `part`; None where it is not installed."""
    try:
        distribution = importlib.metadata.distribution(part.package.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(part.member)))
    return path if path.is_file() else None
