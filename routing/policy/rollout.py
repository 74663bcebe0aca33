"""How one model takes over from another. The rules are the table `ROLLOUT`; the way of a candidate that does well:

    settled --challenged--> watching --ready--> loading --ready--> shadow --heard--> canary --passed--> settled
                                \\--doubted--> gated --/                  (worse) \\--> rolled_back

A model that leads the incumbent by `Rules.margin` of incentive, for `Rules.dwell`, and whose own measured score the
gate lets in, is loaded, hears calls unheard, then serves growing shares of new sessions, then all. If it does clearly
worse than the incumbent in real conversations, it is barred; also after its promotion, while it is on probation. An
incumbent that is no longer fit to serve is replaced at once by the best that is ready; one that has lost its workers,
after `Rules.grace`, for which others answer in its place.

`step` looks at everything anew and makes at most one transition. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto

from routing.fleet.contract import Worker
from routing.policy.bars import MOST_DOUBLINGS, bar, bar_failed, lift
from routing.policy.contract import LiveStats, LiveTable, Ranked, Rollout, Rules, Stage
from routing.policy.signs import PRESENT, Finding, Sign, find, next_share, turns

SKEW = 60.0
"""Seconds by which the clocks of gateways that share a rollout may differ."""


class Act(Enum):
    """What a transition does."""

    NOTHING = auto()
    EXPLAIN = auto()  # only the reason is another
    SUCCEED = auto()  # who is ready becomes the incumbent
    REVERT = auto()  # the incumbent is barred, and the one before it is back
    BAR = auto()  # the candidate is barred
    DROP = auto()  # there is no candidate any more
    WATCH = auto()  # there is another candidate
    ENTER = auto()  # the candidate's turns are counted from here
    RAISE = auto()  # the candidate gets the next larger share
    PROMOTE = auto()  # the candidate becomes the incumbent


Row = Mapping[Sign, tuple[Stage, Act]]

_ALWAYS: Row = {Sign.VACANT: ("settled", Act.SUCCEED), Sign.WORSENED: ("rolled_back", Act.REVERT)}
_CHALLENGE: Row = {Sign.UNCHALLENGED: ("settled", Act.DROP), Sign.CHALLENGED: ("watching", Act.WATCH)}
_TRIAL: Row = {
    **_CHALLENGE,
    Sign.WORSE: ("rolled_back", Act.BAR),
    Sign.DOUBTED: ("gated", Act.ENTER),
    Sign.UNREADY: ("loading", Act.ENTER),
    Sign.HEARD: ("canary", Act.RAISE),
    Sign.PASSED: ("settled", Act.PROMOTE),
}
_ADMISSION: Row = {**_CHALLENGE, Sign.UNREADY: ("loading", Act.ENTER), Sign.READY: ("shadow", Act.ENTER)}

_ROWS: Mapping[Stage, Row] = {
    "settled": {Sign.CHALLENGED: ("watching", Act.WATCH)},
    "watching": {**_ADMISSION, Sign.DOUBTED: ("gated", Act.ENTER)},
    "gated": {**_ADMISSION, Sign.DOUBTED: ("gated", Act.EXPLAIN)},
    "loading": {
        **_CHALLENGE,
        Sign.WORSE: ("rolled_back", Act.BAR),
        Sign.DOUBTED: ("gated", Act.ENTER),
        Sign.READY: ("shadow", Act.ENTER),
    },
    "shadow": _TRIAL,
    "canary": _TRIAL,
    "rolled_back": {Sign.PARDONED: ("settled", Act.DROP), Sign.CHALLENGED: ("watching", Act.WATCH)},
}

ROLLOUT: Mapping[tuple[Stage, Sign], tuple[Stage, Act]] = {
    (stage, sign): {**_ALWAYS, **row}.get(sign, (stage, Act.NOTHING)) for stage, row in _ROWS.items() for sign in Sign
}
"""What a sign in a stage leads to, and what that does. A sign that a stage's row does not name changes nothing."""


def step(
    rollout: Rollout,
    *,
    ranking: Sequence[Ranked],
    workers: Sequence[Worker],
    live: LiveTable,
    rules: Rules,
    now: float,
) -> Rollout:
    """Where the rollout stands after a look at everything; equal to `rollout` where nothing has changed."""
    rollout = _in_time(_attended(rollout, workers, now), rules, now)
    rollout = bar_failed(lift(rollout, workers, now=now), ranking, workers, rules=rules, now=now)
    if rollout.previous is not None and now >= rollout.probation_until:
        rollout = replace(rollout, previous=None, baseline=LiveStats())
    if turns(live, rollout.candidate) < rollout.turns_at:  # this process has been restarted and counts anew
        rollout = replace(rollout, turns_at=0)
    finding = find(rollout, ranking=ranking, workers=workers, live=live, rules=rules, now=now)
    stage, act = ROLLOUT[rollout.stage, finding.sign]
    listed = {ranked.key for ranked in ranking if ranked.entry is not None}
    return _apply(act, replace(rollout, stage=stage), finding, live=live, listed=listed, rules=rules, now=now)


def _attended(rollout: Rollout, workers: Sequence[Worker], now: float) -> Rollout:
    """The same, with since when the incumbent has been on no worker."""
    since = None if rollout.absent_since is None else min(rollout.absent_since, now)
    if rollout.incumbent is None or any(w.key == rollout.incumbent and w.state in PRESENT for w in workers):
        since = None
    elif since is None:
        since = now
    return rollout if since == rollout.absent_since else replace(rollout, absent_since=since)


def _in_time(rollout: Rollout, rules: Rules, now: float) -> Rollout:
    """The same, where the clock has been set back, with no time further ahead than it can be."""
    longest = now + SKEW + rules.cooldown * 2**MOST_DOUBLINGS
    since = now if rollout.since > now + SKEW else rollout.since
    until = min(rollout.probation_until, now + SKEW + rules.probation)
    barred = tuple(replace(bar, until=longest) if bar.until > longest else bar for bar in rollout.barred)
    kept = replace(rollout, since=since, probation_until=until, barred=barred)
    return rollout if kept == rollout else kept


def _apply(
    act: Act,
    rollout: Rollout,
    finding: Finding,
    *,
    live: LiveTable,
    listed: Collection[str],
    rules: Rules,
    now: float,
) -> Rollout:
    """The rollout, already in its next stage, after the act."""
    key, reason = finding.key, finding.reason
    if act is Act.NOTHING:
        return rollout
    if act is Act.EXPLAIN:
        return replace(rollout, reason=reason)
    after = replace(rollout, since=now, share=0.0, turns_at=turns(live, rollout.candidate), reason=reason)
    if act in (Act.BAR, Act.REVERT) and key is not None:
        after = bar(after, key, reason, rules=rules, now=now)
    match act:
        case Act.WATCH:
            after = replace(after, candidate=key)
        case Act.DROP:
            after = replace(after, candidate=None, turns_at=0)
        case Act.RAISE:
            after = replace(after, share=next_share(rollout.share, rules) or 0.0)
        case Act.REVERT:
            after = replace(_new_incumbent(after, rollout.previous, listed), candidate=key)
        case Act.SUCCEED:
            after = _new_incumbent(after, key, listed)
        case Act.PROMOTE:
            after = replace(
                _new_incumbent(after, key, listed),
                previous=rollout.incumbent,
                probation_until=now + rules.probation,
                baseline=live.get(rollout.incumbent or "", LiveStats()),
            )
    return after


def _new_incumbent(rollout: Rollout, key: str | None, listed: Collection[str]) -> Rollout:
    """Nobody else is left in any role."""
    return replace(
        rollout,
        incumbent=key,
        listed=key in listed,
        absent_since=None,
        candidate=None,
        turns_at=0,
        previous=None,
        probation_until=0.0,
        baseline=LiveStats(),
    )
