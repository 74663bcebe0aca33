"""The snapshots that the cache holds, and which of them go to make room for another.

What is removed takes the name of a half-downloaded snapshot first. So whoever is killed in the middle of it leaves what
a killed download leaves: a download goes on with it, the next removal takes the rest. Links are not followed, and
folders that have other names than snapshots have are left alone.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from models.hub.directory import disk_errors
from models.hub.errors import WeightsUnavailableError
from models.hub.locks import alone, touch, unused
from models.hub.ref import HubRef, is_repository
from models.hub.settings import GB, HubSettings

_log = logging.getLogger(__name__)

_PARTIAL = ".partial"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a commit is kept: `<cache>/<namespace>--<name>/<commit>/`, and what lies beside it.

    `used` is locked (`locks.used`) by whoever downloads or uses it; it holds the size that the download will have.
    """

    cache: Path
    repository: str
    commit: str

    @property
    def ref(self) -> HubRef:
        """What is kept there."""
        return HubRef(repository=self.repository, commit=self.commit)

    @property
    def directory(self) -> Path:
        """The whole snapshot."""
        return self.beside("")

    @property
    def partial(self) -> Path:
        """One that is not whole yet, or not any more."""
        return self.beside(_PARTIAL)

    @property
    def record(self) -> Path:
        """What its files were when they were verified."""
        return self.beside(".json")

    @property
    def used(self) -> Path:
        """Its use."""
        return self.beside(".used")

    def beside(self, suffix: str) -> Path:
        """The commit's path with a suffix."""
        return self.cache.absolute() / self.repository.replace("/", "--") / f"{self.commit}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot in the cache. `size` in bytes, and `coming`: those that a running download may still bring.

    `last_used` in seconds since the epoch, 0 where nothing tells. What is not certain to be unused is `in_use`.
    """

    place: Place
    size: int
    coming: int
    whole: bool
    in_use: bool
    last_used: float


def look(settings: HubSettings) -> list[Kept]:
    """What the cache holds, that which was unused longest first. Raises WeightsUnavailableError of the disk's."""
    if not settings.cache.is_dir():
        return []
    with _looking(settings):
        return _kept(settings)


def remove(settings: HubSettings, ref: HubRef | None = None) -> list[Kept]:
    """Remove one snapshot, or all that are not in use, and return what was removed.

    Raises WeightsUnavailableError where that one is in use or not there, or the disk does not do it.
    """
    chosen, removed = [], []
    if settings.cache.is_dir():
        with _looking(settings):
            chosen = [kept for kept in _kept(settings) if ref in (None, kept.place.ref)]
            removed = [kept for kept in chosen if _remove(kept.place)]
    if ref and not removed:
        raise WeightsUnavailableError(str(ref), "in use; it is not removed" if chosen else "not in the cache")
    return removed


def make_room(place: Place, size: int, settings: HubSettings) -> None:
    """Let a snapshot of so many bytes come into `place`, which the caller has made and uses.

    Where the cache has a limit, what was unused longest is removed until that is kept, and the disk holds it all.
    Raises WeightsUnavailableError where it cannot be; nothing is removed then.
    """
    with _looking(settings):
        others = [kept for kept in _kept(settings) if kept.place != place]
        over_limit = sum(kept.size + kept.coming for kept in others) + size - _limit(settings)
        free = shutil.disk_usage(place.partial).free - sum(kept.coming for kept in others)
        excess = max(over_limit, size - _size(place.partial) - free)
        with ExitStack() as locks:
            going = []
            for kept in others if settings.cache_gb else ():
                if excess > 0 and locks.enter_context(unused(kept.place.used)):
                    going.append(kept.place)
                    excess -= kept.size
            if excess > 0:
                raise WeightsUnavailableError(str(place.ref), _no_room(size, free, others, settings))
            for other in going:
                _log.info("removed from the cache, to make room: %s", other.ref)
                _clear(other)
        with disk_errors(place.used):
            place.used.write_text(str(size))


def _looking(settings: HubSettings) -> AbstractContextManager[None]:
    """One at a time: what one process has found unused, and the room that it has promised, another counts on."""
    path = settings.cache.absolute() / "cache.lock"
    return alone(path, str(path), "somebody else is still making room in the cache", seconds=settings.max_seconds)


def _kept(settings: HubSettings) -> list[Kept]:
    with disk_errors(settings.cache):
        return sorted((_found(place) for place in _places(settings.cache)), key=lambda kept: kept.last_used)


def _places(cache: Path) -> Iterator[Place]:
    for home in _folders(cache):
        repository = home.replace("--", "/")
        if is_repository(repository):
            for commit in sorted({folder.removesuffix(_PARTIAL) for folder in _folders(cache / home)}):
                place = Place(cache, repository, commit)
                if _COMMIT.fullmatch(commit) and not (place.directory.is_symlink() or place.partial.is_symlink()):
                    yield place


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as found:
        return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))


def _found(place: Place) -> Kept:
    with unused(place.used) as free:
        if not free:
            touch(place.used)  # whoever uses it may be killed, and could not say so in the end
        size, whole = _size(place.directory) + _size(place.partial), place.directory.is_dir()
        coming = 0 if free else max(_announced(place) - size, 0)  # also of one that got its name between two looks
        used = place.used.stat().st_mtime if place.used.is_file() else 0
    return Kept(place=place, size=size, coming=coming, whole=whole, in_use=not free, last_used=used)


def _announced(place: Place) -> int:
    try:
        return int(place.used.read_text() or 0)
    except (OSError, ValueError):
        return 0


def _size(directory: Path) -> int:
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):  # somebody works there
                size += Path(folder, name).lstat().st_size
    return size


def _limit(settings: HubSettings) -> float:
    return settings.cache_gb * GB if settings.cache_gb else math.inf


def _remove(place: Place) -> bool:
    with unused(place.used) as free:
        if free:
            _clear(place)
    return free


def _clear(place: Place) -> None:
    """Whoever calls has made sure that nobody uses it. A snapshot without its record would be refused as damaged."""
    with disk_errors(place.directory):
        if place.directory.is_dir():
            _delete(place.partial)
            place.directory.rename(place.partial)
        place.record.unlink(missing_ok=True)
        _delete(place.partial)


def _delete(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _no_room(size: int, free: int, others: list[Kept], settings: HubSettings) -> str:
    held = sum(kept.size + kept.coming for kept in others)
    limit = f"at most {settings.cache_gb:g} GB" if settings.cache_gb else "no limit, so that nothing is removed for it"
    names = [f"{kept.place.ref} ({shown(kept.size + kept.coming)})" for kept in others if kept.in_use]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"no room: {shown(size)} are needed, the disk has {shown(free)} free, the cache (MUSE_HUB_CACHE_GB: {limit}) "
        f"holds {shown(held)}; in use: {', '.join(names[:_SHOWN]) or 'nothing'}{more}"
    )


def shown(size: float) -> str:
    """Bytes, for people."""
    return f"{size / GB:.2f} GB"
