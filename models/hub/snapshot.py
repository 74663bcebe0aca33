"""From a reference to a directory that is ready to load, or an error that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.hub.download import Progress, Report
from models.hub.errors import WeightsUnavailableError
from models.hub.network import Resolver, system_resolver
from models.hub.ref import HubRef, LocalRef, parse_ref
from models.hub.settings import HubSettings
from models.hub.source import HubSource, LocalSource, Source, mirrored
from models.hub.verify import VerifiedFile, check_digest, check_hotkey


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Verified weights. Read `files` only: what else lies in `directory` was not looked at.

    `commit` is None for a local directory; `digest` is `verify.tree_digest` of all files.
    """

    directory: Path
    files: Mapping[str, VerifiedFile]
    commit: str | None
    digest: str

    def path(self, name: str) -> Path:
        """Where a file lies; raises WeightsUnavailableError where the snapshot has no such file."""
        if name not in self.files:
            raise WeightsUnavailableError(name, f"not among the files of {self.directory}: {', '.join(self.files)}")
        return self.directory / name


def _silent(progress: Progress) -> None:
    """Nobody watches."""


def resolve(
    ref: str | HubRef | LocalRef,
    *,
    settings: HubSettings,
    hotkey: str | None = None,
    report: Report = _silent,
    resolver: Resolver = system_resolver,
) -> Snapshot:
    """Download what no mirror and no cache holds, and verify everything: sizes, hashes, headers, digest, hotkey.

    Blocks for as long as a download takes. Whether the tensors are those of a model is for its loader to say, with
    `safetensors_header.check_tensors`. Raises WeightsRefusedError for what may not be loaded, and
    WeightsUnavailableError for what cannot be had; both are EngineErrors and name the file.
    """
    parsed = parse_ref(ref) if isinstance(ref, str) else ref
    commit = parsed.commit if isinstance(parsed, HubRef) else None
    if isinstance(parsed, HubRef):
        parsed = mirrored(parsed, settings) or parsed
    source: Source
    if isinstance(parsed, HubRef):
        source = HubSource(parsed, settings, resolver=resolver)
    else:
        source = LocalSource(parsed, settings)
    directory, record = source.open(report)
    digest = check_digest(record, parsed.sha256)
    if hotkey is not None:
        check_hotkey(directory, hotkey)
    return Snapshot(directory=directory, files=record, commit=commit, digest=digest)
