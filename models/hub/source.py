"""The two places that weights come from, one shape: open a source, get a directory whose every file is verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from huggingface_hub import hf_hub_url

from models.hub.api import list_repository
from models.hub.cache import Place, make_room
from models.hub.directory import disk_errors, inside, refuse, resolved, walk
from models.hub.download import Downloader, Report
from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.locks import alone, used
from models.hub.network import Resolver, guarded_client, system_resolver
from models.hub.policy import ListedFile, choose
from models.hub.ref import HubRef, LocalRef
from models.hub.settings import HubSettings
from models.hub.verify import Record, VerifiedFile, check_contents, read_record, verify_tree, write_record


class Source(Protocol):
    """Weights from somewhere."""

    def open(self, report: Report) -> tuple[Path, Record]:
        """The directory that holds the files, and what each was when it was verified.

        Raises WeightsRefusedError or WeightsUnavailableError that names the file at fault.
        """


class LocalSource:
    """A directory on this machine, used where it lies. Only links that stay inside it are followed."""

    def __init__(self, ref: LocalRef, settings: HubSettings) -> None:
        self._directory = ref.directory
        self._settings = settings

    def open(self, report: Report) -> tuple[Path, Record]:
        """Check what the directory holds; a file unchanged since the last time is not hashed again."""
        del report  # nothing comes from afar
        root = resolved(self._directory)
        with disk_errors(root):
            files = choose(walk(root, refuse), self._settings)
        recorded_at = self._settings.cache / "local" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()}.json"
        recorded = read_record(recorded_at) or {}
        record = verify_tree(root, files, recorded)
        _remember(recorded_at, recorded, record)
        return root, record


def mirrored(ref: HubRef, settings: HubSettings) -> LocalRef | None:
    """Where the operator's own mirror holds this commit; None where it does not, or there is no mirror.

    Raises WeightsRefusedError where a link leads out of the mirror, WeightsUnavailableError where it cannot be read.
    """
    if settings.mirror is None:
        return None
    directory = settings.mirror / ref.repository / ref.commit
    with disk_errors(directory):
        if not directory.is_dir():
            return None
    if not inside(directory, settings.mirror.resolve()):
        raise WeightsRefusedError(str(directory), "a symlink out of the mirror (MUSE_HUB_MIRROR)")
    return LocalRef(directory=directory, sha256=ref.sha256)


class HubSource:
    """A repository of the hub at one commit, kept as `<cache>/<namespace>--<name>/<commit>/`.

    Files come into `<commit>.partial`, which takes its final name when all are there and verified, and nothing else
    is. `<commit>.json`, beside it, is the record. One process at a time works on a commit; the others wait for it. Once
    open, the snapshot is in use until this process ends: it is not removed to make room.
    """

    def __init__(self, ref: HubRef, settings: HubSettings, *, resolver: Resolver = system_resolver) -> None:
        self._ref = ref
        self._settings = settings
        self._resolver = resolver
        self._place = Place(settings.cache, ref.repository, ref.commit)
        self._directory = self._place.directory
        self._partial = self._place.partial
        self._record = self._place.record
        self._remedy = f"remove {self._directory} to fetch again"

    def open(self, report: Report) -> tuple[Path, Record]:
        """Take the snapshot from the cache, which holds what was verified and no more, or download it."""
        with used(self._place.used):
            if not self._directory.is_dir():
                with self._working():
                    if not self._directory.is_dir():
                        return self._directory, self._download(report)
            return self._directory, self._reopen()

    def _reopen(self) -> Record:
        recorded = read_record(self._record)
        if recorded is None:
            raise WeightsRefusedError(str(self._record), f"missing or damaged; {self._remedy}")
        with disk_errors(self._directory):
            found = {file.name for file in choose(walk(self._directory, refuse), self._settings)}
        for name in sorted(found ^ recorded.keys()):
            reason = "not a file of this snapshot" if name in found else "gone from the cache"
            raise WeightsRefusedError(name, f"{reason}; {self._remedy}")
        files = [ListedFile(name=name, size=file.size, sha256=file.sha256) for name, file in recorded.items()]
        record = verify_tree(self._directory, files, recorded)
        _remember(self._record, recorded, record)
        return record

    def _download(self, report: Report) -> Record:
        files = choose(list_repository(self._ref, self._settings, resolver=self._resolver), self._settings)
        client = guarded_client(self._settings, resolver=self._resolver, seconds=self._settings.max_seconds)
        with client, disk_errors(self._partial):
            self._partial.mkdir(parents=True, exist_ok=True)
            self._sweep(kept={file.name for file in files})
            make_room(self._place, sum(file.size for file in files), self._settings)
            downloader = Downloader(client, self._settings, report)
            # Small files first: what is wrong with a repository shows before its gigabytes are fetched.
            fetched = {file.name: self._fetch(downloader, file) for file in sorted(files, key=lambda file: file.size)}
            record = {name: fetched[name] for name in sorted(fetched)}
            write_record(self._record, record)
            self._partial.rename(self._directory)
        return record

    def _fetch(self, downloader: Downloader, file: ListedFile) -> VerifiedFile:
        path = self._partial / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(self._ref.repository, file.name, revision=self._ref.commit, endpoint=self._settings.endpoint)
        downloader.fetch(url, file, path)
        try:
            return check_contents(path, file)
        except WeightsRefusedError:
            path.unlink(missing_ok=True)
            raise

    def _sweep(self, kept: AbstractSet[str]) -> None:
        """Remove what an earlier attempt has left by another listing: it must not get into the final directory."""
        for path in sorted(self._partial.rglob("*"), reverse=True):  # what is in a folder comes before it
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # not empty
                    path.rmdir()
            elif path.relative_to(self._partial).as_posix() not in kept:
                path.unlink()

    def _working(self) -> AbstractContextManager[None]:
        otherwise = "somebody else is still downloading it"
        return alone(self._place.beside(".lock"), str(self._ref), otherwise, seconds=self._settings.max_seconds)


def _remember(path: Path, recorded: Record, record: Record) -> None:
    if record != recorded:
        with suppress(WeightsUnavailableError):  # a cache that cannot be written costs time, nothing else
            write_record(path, record)
