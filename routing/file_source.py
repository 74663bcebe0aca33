"""The leaderboard from a file."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from routing.leaderboard import Snapshot, SourceState
from routing.snapshot_file import SnapshotFileError, read
from routing.source import state_of

_Signature = tuple[int, int, int]  # inode, time of change, size


class FileSource:
    """A `SnapshotSource`. The file is looked at every `refresh_seconds`, and read anew where it has changed.

    A file that says that it was taken from the chain ages from then on. One that was written by hand (`source` is
    `file`) holds for as long as it can be read: its age counts from the last time that it could.
    """

    def __init__(self, path: Path, *, refresh_seconds: float, stale_seconds: float) -> None:
        self._path = path
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._snapshot: Snapshot | None = None
        self._signature: _Signature | None = None
        self._looked_at: float | None = None
        self._problem: str | None = None
        self._failures = 0

    async def refresh(self, *, now: float) -> SourceState:
        """See `SnapshotSource`. A file that has become unreadable or wrong leaves what it said before."""
        if self._looked_at is None or not 0 <= now - self._looked_at < self._refresh_seconds:
            self._looked_at = now
            await self._look(now)
        return state_of(
            self._snapshot,
            now=now,
            stale_seconds=self._stale_seconds,
            problem=self._problem,
            failures=self._failures,
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def _look(self, now: float) -> None:
        try:
            changed = await asyncio.to_thread(self._read_if_changed)
        except SnapshotFileError as error:
            self._failures += 1
            self._problem = error.public
            return
        self._problem, self._failures = None, 0
        snapshot = changed or self._snapshot
        if snapshot is not None:
            self._snapshot = replace(snapshot, taken_at=now) if snapshot.source == "file" else snapshot

    def _read_if_changed(self) -> Snapshot | None:
        signature = self._sign()
        if signature is not None and signature == self._signature:
            return None
        snapshot = read(self._path)
        self._signature = signature
        return snapshot

    def _sign(self) -> _Signature | None:
        try:
            status = self._path.stat()
        except OSError:
            return None  # `read` says why
        return status.st_ino, status.st_mtime_ns, status.st_size
