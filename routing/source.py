"""Where snapshots come from: the chain or a file, one shape for both."""

from __future__ import annotations

from typing import Protocol

from routing.leaderboard import Snapshot, SourceState


class SnapshotSource(Protocol):
    """A source of leaderboard snapshots.

    Nothing here ever raises in a conversation's way: it is read by a loop beside them.
    """

    async def refresh(self, *, now: float) -> SourceState:
        """Read anew where that is due at `now` (Unix time, s), and say how it went.

        A failure leaves the last good snapshot in place and is told in `SourceState.problem`, which the caller logs.
        """

    async def close(self) -> None:
        """Release what is held."""


def state_of(
    snapshot: Snapshot | None, *, now: float, stale_seconds: float, problem: str | None, failures: int
) -> SourceState:
    """The state of a source whose last good snapshot is this one. Times in s.

    Without any it is stale, and so it is where it comes from further in the future than clocks differ: in another unit,
    or by a clock that was wrong, it would never grow old.
    """
    age = None if snapshot is None else max(0.0, now - snapshot.taken_at)
    return SourceState(
        snapshot=snapshot,
        age=age,
        stale=snapshot is None or abs(now - snapshot.taken_at) > stale_seconds,
        problem=problem,
        failures=failures,
    )
