"""The leaderboard from the chain, through outages: the last good snapshot stays, in memory and on disk."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from routing import snapshot_file
from routing.chain.errors import ChainError, ChainUnavailableError
from routing.leaderboard import Snapshot, SourceState
from routing.snapshot_file import SnapshotFileError
from routing.source import state_of

_log = logging.getLogger(__name__)

FIRST_RETRY = 5.0
"""Seconds, half of them by chance; doubled with each further failure, up to the time between readings."""


class Reader(Protocol):
    """Reads the chain once."""

    async def read(self, *, now: float) -> Snapshot:
        """The leaderboard now. Raises ChainError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which leaderboard it is. What was kept of another is of no use."""

    network: str
    netuid: int
    competition: str | None

    def matches(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot is one of this leaderboard."""
        found = Origin(network=snapshot.network, netuid=snapshot.netuid, competition=snapshot.competition)
        return snapshot.source == "chain" and found == self


class ChainSource:
    """A `SnapshotSource`, used by one caller at a time.

    Reads the chain every `refresh_seconds`; after a failure sooner, and then ever less often. The first call returns
    at once with what the last run has left on disk, where it has, so that a start does not wait for the chain.

    `jitter` gives 0 to 1: it spreads the retries of many servers.
    """

    def __init__(
        self,
        reader: Reader,
        origin: Origin,
        *,
        cache: Path,
        refresh_seconds: float,
        stale_seconds: float,
        jitter: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._origin = origin
        self._cache = cache
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._jitter = jitter
        self._snapshot: Snapshot | None = None
        self._loaded = False
        self._tried_at: float | None = None
        self._wait = 0.0  # from then until the next attempt
        self._problem: str | None = None
        self._failures = 0

    async def refresh(self, *, now: float) -> SourceState:
        """See `SnapshotSource`."""
        if not self._loaded:
            self._loaded = True
            self._snapshot = await self._load()
            if self._snapshot is not None:
                return self._state(now)
        if self._tried_at is None or not 0 <= now - self._tried_at < self._wait:
            self._tried_at = now
            await self._attempt(now)
        return self._state(now)

    async def close(self) -> None:
        """Nothing is held between readings."""

    async def _attempt(self, now: float) -> None:
        try:
            snapshot = await self._reader.read(now=now)
            self._check_progress(snapshot, now)
        except ChainError as error:
            self._failures += 1
            longest = min(FIRST_RETRY * 2.0 ** min(self._failures - 1, 32), self._refresh_seconds)
            self._wait = longest * (0.5 + 0.5 * self._jitter())
            self._problem = error.message
            return
        self._snapshot, self._failures, self._wait = snapshot, 0, self._refresh_seconds
        self._problem = await self._keep(snapshot) or self._too_old(snapshot, now)

    def _check_progress(self, snapshot: Snapshot, now: float) -> None:
        """A node that lags behind what is known is not believed; one that still does when that is stale, is."""
        known = self._snapshot
        if known is not None and snapshot.block < known.block and not self._state(now).stale:
            raise ChainUnavailableError(
                f"{self._origin.network}: the node is at block {snapshot.block}, behind {known.block}"
            )

    async def _load(self) -> Snapshot | None:
        if not await asyncio.to_thread(os.path.exists, self._cache):
            return None
        try:
            snapshot = await asyncio.to_thread(snapshot_file.read, self._cache)
        except SnapshotFileError as error:
            _dropped(error.public)
            return None
        if not self._origin.matches(snapshot):
            _dropped(f"{self._cache.name} is of another leaderboard")
            return None
        return snapshot

    async def _keep(self, snapshot: Snapshot) -> str | None:
        try:
            await asyncio.to_thread(snapshot_file.write, self._cache, snapshot)
        except SnapshotFileError as error:
            return f"the leaderboard is good, but not kept for a restart: {error.public}"
        return None

    def _too_old(self, snapshot: Snapshot, now: float) -> str | None:
        if now - snapshot.taken_at <= self._stale_seconds:
            return None
        return f"{self._origin.network}: the node's newest block is {now - snapshot.taken_at:.0f} s old"

    def _state(self, now: float) -> SourceState:
        return state_of(
            self._snapshot,
            now=now,
            stale_seconds=self._stale_seconds,
            problem=self._problem,
            failures=self._failures,
        )


def _dropped(fault: str) -> None:
    """Logged here, as it passes: the chain is read at once instead, and that is what the state tells of."""
    _log.warning("the leaderboard that was kept is not used", extra={"fields": {"problem": fault}})
