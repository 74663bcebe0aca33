"""Whether one version does clearly worse than another in real conversations."""

from __future__ import annotations

import math

from routing.policy.contract import LiveStats, Reason, Rules

_Z = 2.576
"""Of the 99 % interval."""


def verdict(stats: LiveStats, against: LiveStats, rules: Rules) -> Reason | None:
    """How the version with `stats` does worse than the one it is held `against`; None where it does not, or too little
    has been seen.

    Gaps are compared only where both are known. Of a version that has hardly been used it is assumed that it neither
    misses frames nor fails.
    """
    found = (judge(stats, against, rules) for judge in (_slower, _misses, _fails, _keeps_silent))
    return next((reason for reason in found if reason is not None), None)


def _slower(stats: LiveStats, against: LiveStats, rules: Rules) -> Reason | None:
    if stats.gap_p95 is None or against.gap_p95 is None or min(stats.turns, against.turns) < rules.least_turns:
        return None
    most = against.gap_p95 * rules.slower + rules.slack
    if stats.gap_p95 <= most:
        return None
    text = f"its p95 gap is {stats.gap_p95:.0f} ms; beside {against.gap_p95:.0f} ms at most {most:.0f} ms are borne"
    return Reason(code="slower", text=text)


def _misses(stats: LiveStats, against: LiveStats, rules: Rules) -> Reason | None:
    if stats.misses is None or stats.frames < rules.least_frames:
        return None
    usual = against.misses if against.misses is not None and against.frames >= rules.least_frames else 0.0
    if stats.misses <= usual + rules.worse_misses:
        return None
    return Reason(code="misses", text=f"{stats.misses:.1%} of its frames are late, against {usual:.1%}")


def _fails(stats: LiveStats, against: LiveStats, rules: Rules) -> Reason | None:
    """Failures are few, so their share alone says little: what counts is how low it may be, to 99 %."""
    if stats.errors is None or stats.sessions < rules.least_sessions:
        return None
    usual = against.errors if against.errors is not None and against.sessions >= rules.least_sessions else 0.0
    if lower_bound(stats.errors, stats.sessions) <= usual + rules.worse_errors:
        return None
    text = f"{stats.errors:.1%} of its {stats.sessions} sessions failed, against {usual:.1%}"
    return Reason(code="errors", text=text)


def _keeps_silent(stats: LiveStats, against: LiveStats, rules: Rules) -> Reason | None:
    """A model that answers nobody has no gap that could be too long. Many callers leave before they have said anything,
    whoever answers: so both shares are taken as far in its favour as they may be, to 99 %.
    """
    if stats.silent is None or against.silent is None or min(stats.sessions, against.sessions) < rules.least_sessions:
        return None
    usual = 1 - lower_bound(1 - against.silent, against.sessions)
    if lower_bound(stats.silent, stats.sessions) <= usual + rules.worse_silence:
        return None
    text = f"it answered nothing in {stats.silent:.1%} of its {stats.sessions} sessions, against {against.silent:.1%}"
    return Reason(code="silent", text=text)


def lower_bound(share: float, count: int) -> float:
    """The low end of the 99 % interval of a share that was seen `count` times (E. B. Wilson, 1927)."""
    spread = _Z * math.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    return max((share + _Z**2 / (2 * count) - spread) / (1 + _Z**2 / count), 0.0)
