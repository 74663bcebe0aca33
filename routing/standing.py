"""How old a snapshot is, and whether that is too old."""

from __future__ import annotations

from routing.leaderboard import Snapshot, SourceState


def state_of(
    snapshot: Snapshot | None, *, now: float, stale_seconds: float, problem: str | None, failures: int
) -> SourceState:
    """The state of a source whose last good snapshot is this one; without any it is stale. Times in s."""
    age = None if snapshot is None else max(0.0, now - snapshot.taken_at)
    return SourceState(
        snapshot=snapshot,
        age=age,
        stale=age is None or age > stale_seconds,
        problem=problem,
        failures=failures,
    )
