"""How the models do in real conversations: figures over the last of them, bounded in time and in number."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

from routing.policy.contract import LiveStats, LiveTable

MOST_VERSIONS = 256
"""Versions that are remembered; the one of which nothing was heard for longest goes first."""

FRAMES_A_TURN = 125
"""Frames of a duplex engine, 10 s of them, that count for a turn: such a model may speak on without taking any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How far back the figures go: `span` seconds, and at most `turns` turns.

    Frames and sessions are counted in slices of `slice` seconds, so that what is kept does not grow with the traffic.
    """

    span: float = 3600.0
    turns: int = 200
    slice: float = 30.0


class LiveTimings:
    """Collects what happens in conversations, by version. `now` is in seconds of one clock that does not go back."""

    def __init__(self, window: Window | None = None) -> None:
        self._window = window or Window()
        self._versions: dict[str, _Version] = {}  # in the order in which they were last heard of

    def turn(self, key: str, gap_ms: float, *, now: float) -> None:
        """A turn was answered `gap_ms` after the user had finished."""
        self._version(key).gaps.add(gap_ms, now=now, window=self._window)

    def frames(self, key: str, count: int, late: int, *, now: float) -> None:
        """Of `count` frames that an engine sent, `late` missed their tick."""
        self._version(key).frames.add(count, late, now=now, window=self._window)

    def session(self, key: str, *, failed: bool, silent: bool = False, now: float) -> None:
        """A session ended, or could not begin; `failed`: the engine failed it, `silent`: it answered no turn."""
        version = self._version(key)
        version.sessions.add(1, int(failed), now=now, window=self._window)
        version.silences.add(1, int(silent), now=now, window=self._window)

    def forget(self, key: str) -> None:
        """What was seen of this version counts no more."""
        self._versions.pop(key, None)

    def table(self, now: float) -> LiveTable:
        """The figures of every version that is remembered."""
        return {key: version.stats(now - self._window.span) for key, version in self._versions.items()}

    def _version(self, key: str) -> _Version:
        version = self._versions.pop(key, None) or _Version()
        self._versions[key] = version
        if len(self._versions) > MOST_VERSIONS:
            del self._versions[next(iter(self._versions))]
        return version


@dataclass(slots=True)
class _Slices:
    """Counts by slice of time, oldest first: [begin, count, bad]."""

    slices: deque[list[float]] = field(default_factory=deque)
    count: int = 0
    bad: int = 0
    total: int = 0

    def add(self, count: int, bad: int, *, now: float, window: Window) -> None:
        if not self.slices or now - self.slices[-1][0] >= window.slice:
            self.slices.append([now, 0, 0])
        self.slices[-1][1] += count
        self.slices[-1][2] += bad
        self.count += count
        self.bad += bad
        self.total += count
        self.forget(now - window.span)

    def forget(self, before: float) -> None:
        while self.slices and self.slices[0][0] < before:
            _, count, bad = self.slices.popleft()
            self.count -= int(count)
            self.bad -= int(bad)

    def share(self) -> float | None:
        return self.bad / self.count if self.count else None


@dataclass(slots=True)
class _Gaps:
    """The last turns' gaps, as they came and in order of size, so that asking costs no sorting."""

    turns: deque[tuple[float, float]] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)
    total: int = 0

    def add(self, gap: float, *, now: float, window: Window) -> None:
        self.turns.append((now, gap))
        insort(self.ordered, gap)
        self.total += 1
        if len(self.turns) > window.turns:
            self._drop()

    def forget(self, before: float) -> None:
        while self.turns and self.turns[0][0] < before:
            self._drop()

    def quantile(self, share: float) -> float | None:
        """Between neighbours on a straight line, as numpy's default."""
        if not self.ordered:
            return None
        place = share * (len(self.ordered) - 1)
        low, high = self.ordered[int(place)], self.ordered[min(int(place) + 1, len(self.ordered) - 1)]
        return low + (high - low) * (place - int(place))

    def _drop(self) -> None:
        _, gap = self.turns.popleft()
        del self.ordered[bisect_left(self.ordered, gap)]


@dataclass(slots=True)
class _Version:
    gaps: _Gaps = field(default_factory=_Gaps)
    frames: _Slices = field(default_factory=_Slices)
    sessions: _Slices = field(default_factory=_Slices)
    silences: _Slices = field(default_factory=_Slices)

    def stats(self, before: float) -> LiveStats:
        for part in (self.gaps, self.frames, self.sessions, self.silences):
            part.forget(before)
        return LiveStats(
            turns=len(self.gaps.turns),
            gap_p50=self.gaps.quantile(0.5),
            gap_p95=self.gaps.quantile(0.95),
            frames=self.frames.count,
            misses=self.frames.share(),
            sessions=self.sessions.count,
            errors=self.sessions.share(),
            silent=self.silences.share(),
            total_turns=max(self.gaps.total, self.frames.total // FRAMES_A_TURN),
        )
