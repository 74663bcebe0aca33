"""The words of the policy: what a session needs, how models stand, and a decision with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from routing.fleet.contract import Worker
from routing.leaderboard import Entry
from routing.scores.standings import ModelScores

Mode = Literal["duplex", "turn_based"]

LatencyClass = Literal["interactive", "relaxed"]
"""`interactive`: no model whose p95 response gap, where it is known, is beyond `Rules.interactive_gap`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNeeds:
    """What a session asks for. None leaves it to the router.

    `model`: a model (`namespace/name`), one version of it (`namespace/name@commit`), `auto`, or one of the names that
    stock clients send unasked. `pin` and `deny` are the tenant's, models or versions: only those, and never those.
    """

    model: str | None = None
    mode: Mode | None = None
    language: str | None = None
    latency: LatencyClass | None = None
    pin: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why, for a program (`code`) and for a person (`text`, safe to show)."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One version of a model in the ranking. `entry` is None for a worker's model that is not on the leaderboard.

    `rank` counts from 1; None where `excluded` says why the model is never served. `unproven`: why what was measured of
    it is too little to go by, where anything must be.
    """

    key: str
    model: str
    rank: int | None
    entry: Entry | None
    scores: ModelScores
    reasons: tuple[Reason, ...] = ()
    excluded: Reason | None = None
    unproven: Reason | None = None

    @property
    def mined(self) -> bool:
        """Whether a miner made it. What nobody mined is the operator's own choice, who answers for it."""
        return self.entry is not None and self.entry.hotkey is not None

    @property
    def deployable(self) -> bool:
        """Whether a fleet can load it: it is listed, and pinned by its commit."""
        return self.entry is not None and self.entry.commit is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStats:
    """How a version has done in real conversations lately. Times in ms; rates 0 to 1. None where there was nothing.

    `gap`: from the end of the user's speech to the reply's first frame. `misses`: share of frames (80 ms) that came
    back late. `errors`: share of sessions that the engine failed; `silent`: of those in which it answered no turn.
    `turns`, `frames` and `sessions` are what these rest on; `total_turns` counts all since this process began, and
    never falls while it runs; of a duplex engine's frames so many count for a turn (`live.FRAMES_A_TURN`).
    """

    turns: int = 0
    gap_p50: float | None = None
    gap_p95: float | None = None
    frames: int = 0
    misses: float | None = None
    sessions: int = 0
    errors: float | None = None
    silent: float | None = None
    total_turns: int = 0


Stage = Literal[
    "settled",  # the incumbent serves all
    "watching",  # a candidate leads by enough, but not for long enough
    "gated",  # a candidate leads, but its measured score does not let it in
    "loading",  # a candidate has no ready worker yet
    "shadow",  # a candidate hears some calls, and nobody hears it
    "canary",  # a candidate serves a share of new sessions
    "rolled_back",  # a candidate did worse than the incumbent and waits until it may try again
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A version that may not be served until then (Unix time, s), and why."""

    key: str
    until: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Where the change from one model to the next stands. `since`: Unix time (s) of the stage's begin.

    `listed`: whether the incumbent was on the leaderboard when it became it; it is given up when it no longer is.
    `absent_since`: since when it has been on no worker (Unix time, s), as this process sees it; None while it is.
    `share`: of new sessions, that the candidate gets; 0 but in `canary`. `turns_at`: the candidate's
    `LiveStats.total_turns` when this stage, or this step of the canary, began. `reason`: why it is in this stage.
    `previous`: who was the incumbent before, and takes over again should the new one do worse than `baseline` (what
    the previous one did when it was replaced) before `probation_until` (Unix time, s). `barred`: versions that were
    taken out of service. `strikes`: how often each was, oldest first; it is barred for twice as long each time.
    """

    stage: Stage = "settled"
    incumbent: str | None = None
    listed: bool = False
    absent_since: float | None = None
    candidate: str | None = None
    since: float = 0.0
    share: float = 0.0
    turns_at: int = 0
    previous: str | None = None
    probation_until: float = 0.0
    baseline: LiveStats = LiveStats()
    barred: tuple[Bar, ...] = ()
    strikes: tuple[tuple[str, int], ...] = ()
    reason: Reason = Reason(code="start", text="nothing has been decided yet")

    def bar(self, key: str) -> Bar | None:
        """Why this version is barred, if it is."""
        return next((bar for bar in self.barred if bar.key == key), None)


Role = Literal["incumbent", "candidate", "requested", "pinned", "fallback", "duel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The decision for one session. `workers` serve `key` and are to be tried in this order.

    `shadow`: a worker that should hear the call too. `reasons`: why this one, the first most telling; `passed_over`:
    the versions before it that it was not, and why; at most `choice.MOST_PASSED_OVER`.
    """

    key: str
    model: str
    role: Role
    workers: tuple[Worker, ...]
    reasons: tuple[Reason, ...]
    passed_over: tuple[tuple[str, Reason], ...] = ()
    shadow: Worker | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator decides. Times in seconds, gaps in ms, shares and scores 0 to 1.

    `pin`, `deny`: models or versions that alone are served, and that never are. `top`: models kept on workers, the
    incumbent and the candidate among them. `margin`, `dwell`: by how much of incentive, and for how long, another must
    lead before it is a candidate. `gate`: how much of the incumbent's measured total it must reach; `min_samples`:
    scorings that this must rest on (0 does without the gate), `max_score_age` how old the newest may be.
    `shadow_share`, `shadow_turns`: the share of calls, and the turns, that it hears unheard. `canary_steps` (shares,
    in order), `canary_turns`: turns before the next step. `probation`: for how long a new incumbent is held against the
    one before it. `grace`: for how long an incumbent may be on no worker, while others answer for it, before one takes
    its place; `patience`: for how long a candidate may not get ready, or hardly take its share of sessions, before it
    is given up. `slower`: how many times the incumbent's p95 gap, and `slack` ms on top, are borne; `worse_misses`,
    `worse_errors`, `worse_silence`: how much more often than the incumbent's. `least_turns`, `least_frames`,
    `least_sessions`: how many of each must have been seen before any of that is judged. `cooldown`: how long a version
    that was rolled back waits; doubled each time.
    """

    pin: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    top: int = 2
    competition: str | None = None
    burn_uid: int | None = None
    margin: float = 0.02
    dwell: float = 600.0
    gate: float = 0.95
    min_samples: int = 3
    max_score_age: float = 7 * 86400.0
    interactive_gap: float = 800.0
    shadow_share: float = 0.1
    shadow_turns: int = 20
    canary_steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    canary_turns: int = 40
    probation: float = 1800.0
    grace: float = 60.0
    patience: float = 7200.0
    slower: float = 1.25
    slack: float = 50.0
    worse_misses: float = 0.02
    worse_errors: float = 0.02
    worse_silence: float = 0.1
    least_turns: int = 20
    least_frames: int = 500
    least_sessions: int = 8
    cooldown: float = 3600.0


LiveTable = Mapping[str, LiveStats]
"""By key."""
