"""The leaderboard as it is shown: everything that is known of the models, put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from routing.duels.ratings import Rating
from routing.feedback.store import FeedbackSummary
from routing.fleet.contract import Worker, WorkerState
from routing.leaderboard import SourceState
from routing.policy.badges import Badge, badges
from routing.policy.contract import Choice, LiveStats, LiveTable, Mode, Ranked, Rollout, Rules, Stage
from routing.protocol import (
    BoardView,
    DecisionView,
    ExcludedView,
    LiveView,
    MetricView,
    ModelView,
    PassedOverView,
    RolloutView,
    ServedView,
    Status,
    ValidatorView,
)
from routing.scores.metrics import METRICS
from routing.scores.standings import TOTAL, MetricStanding, Scoreboard
from streaming.engine import EngineInfo

MOST_POINTS = 16
"""Points of a metric's trend, but for the total's: of 256 models and twenty metrics each, more would be megabytes."""


RUNNING: frozenset[WorkerState] = frozenset(("ready", "overloaded"))
"""States of a worker whose model can be asked for."""

_ON_ITS_WAY: frozenset[Stage] = frozenset(("watching", "gated", "loading", "shadow", "canary"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known at one time. `serving`: what a session that asks for no model gets; None where it gets none."""

    state: SourceState
    scoreboard: Scoreboard
    ranking: Sequence[Ranked]
    workers: Sequence[Worker]
    rollout: Rollout
    live: LiveTable
    rules: Rules
    serving: Choice | None
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    feedback: Mapping[str, FeedbackSummary] = field(default_factory=dict)


def view(facts: Facts) -> BoardView:
    """The leaderboard as the facts have it."""
    return replace(view_frame(facts), models=tuple(view_models(facts)))


def view_frame(facts: Facts) -> BoardView:
    """All of it but the models."""
    snapshot, rollout = facts.state.snapshot, facts.rollout
    shown = [one for one in facts.ranking if _is_shown(one)]
    return BoardView(
        source=snapshot.source if snapshot else None,
        network=snapshot.network if snapshot else None,
        netuid=snapshot.netuid if snapshot else None,
        competition=snapshot.competition if snapshot else None,
        block=snapshot.block if snapshot else None,
        taken_at=snapshot.taken_at if snapshot else None,
        age_seconds=facts.state.age,
        stale=facts.state.stale,
        problem=facts.state.problem if shown or facts.state.problem else "no model is on it, and none on a worker",
        metrics=_metrics({name for one in shown for name in one.scores.metrics}),
        models=(),
        excluded=tuple(_excluded(facts)),
        validators=tuple(_validators(facts)),
        rollout=RolloutView(
            stage=rollout.stage,
            incumbent=rollout.incumbent,
            candidate=rollout.candidate,
            share=rollout.share,
            since=rollout.since,
            reason=rollout.reason,
        ),
    )


def view_models(facts: Facts) -> Iterator[ModelView]:
    """The models, best first, each made when it is asked for."""
    snapshot, workers = facts.state.snapshot, _by_key(facts.workers)
    facts = replace(facts, rollout=_in_effect(facts.rollout, workers))
    shown = [one for one in facts.ranking if _is_shown(one)]
    given = badges(
        shown,
        live=facts.live,
        rules=facts.rules,
        block=snapshot.block if snapshot else None,
        feedback={key: (summary.mean, summary.ratings) for key, summary in facts.feedback.items()},
        ratings={key: (rating.low, rating.high) for key, rating in facts.ratings.items()},
    )
    for ranked in shown:
        yield _model(ranked, facts, workers.get(ranked.key, ()), given.get(ranked.key, ()))


def thinned(name: str, standing: MetricStanding) -> MetricStanding:
    """With a trend of no more than MOST_POINTS, its ends among them, but for the total's; and no digits to excess."""
    points = standing.trend
    last = len(points) - 1
    if name != TOTAL and last >= MOST_POINTS:
        points = tuple(points[round(number * last / (MOST_POINTS - 1))] for number in range(MOST_POINTS))
    return replace(standing, trend=tuple((round(at, 1), round(value, 4)) for at, value in points))


def view_served(
    *, ranking: Iterable[Ranked], workers: Iterable[Worker], rollout: Rollout, serving: Choice | None
) -> tuple[ServedView, ...]:
    """The versions that can be asked for now, those that serve first, then by rank."""
    found, by_key = [], _by_key(workers)
    rollout = _in_effect(rollout, by_key)
    for ranked in ranking:
        own = by_key.get(ranked.key, ())
        status, _ = status_of(ranked.key, rollout=rollout, workers=own, serving=serving)
        info = next((worker.info for worker in own if worker.state in RUNNING and worker.info is not None), None)
        if info is None or ranked.excluded is not None or status == "barred":
            continue
        found.append(
            ServedView(
                id=ranked.model,
                hotkey=ranked.entry.hotkey if ranked.entry else None,
                version=ranked.key,
                rank=ranked.rank,
                status=status,
                mode=_mode(info),
                languages=info.languages,
                voices=info.voices,
            )
        )
    return tuple(sorted(found, key=lambda served: served.status != "serving"))


def view_decision(choice: Choice) -> DecisionView:
    """A decision as it is shown."""
    return DecisionView(
        model=choice.model,
        version=choice.key,
        role=choice.role,
        worker=choice.workers[0].id if choice.workers else None,
        shadow=choice.shadow.id if choice.shadow else None,
        reasons=choice.reasons,
        passed_over=tuple(
            PassedOverView(version=key, code=reason.code, text=reason.text) for key, reason in choice.passed_over
        ),
    )


def status_of(key: str, *, rollout: Rollout, workers: Iterable[Worker], serving: Choice | None) -> tuple[Status, str]:
    """What is being done with a version, and why. `workers` are its own."""
    states = {worker.state: worker.problem for worker in workers}
    running = not RUNNING.isdisjoint(states)
    found: tuple[Status, str] = "waiting", "no worker has it"
    if (bar := rollout.bar(key)) is not None:
        found = "barred", bar.reason.text
    elif key == rollout.candidate and rollout.stage in _ON_ITS_WAY:
        found = "candidate", rollout.reason.text
    elif running and serving is not None and key == (rollout.incumbent or serving.key):
        settled = key == rollout.incumbent and rollout.stage == "settled"  # else the reason is of the candidate
        found = "serving", rollout.reason.text if settled else serving.reasons[0].text
    elif running:
        found = "ready", "it is on a worker, and another is chosen"
    elif "starting" in states:
        found = "loading", "a worker loads it"
    elif "failed" in states or "lost" in states:
        found = "failed", states.get("failed") or states.get("lost") or "its worker does not answer"
    elif "draining" in states:
        found = "waiting", "its last conversations are finished"
    return found


def _in_effect(rollout: Rollout, workers: Mapping[str, Sequence[Worker]]) -> Rollout:
    """As sessions see it: while the incumbent is away, who answers in its place serves."""
    away = not any(worker.state in RUNNING for worker in workers.get(rollout.incumbent or "", ()))
    return replace(rollout, incumbent=None) if away else rollout


def _is_shown(ranked: Ranked) -> bool:
    """Whether it is among the models, and not merely excluded: one that fails still has its figures."""
    return ranked.excluded is None or ranked.excluded.code == "failing"


def _model(ranked: Ranked, facts: Facts, workers: Sequence[Worker], given: tuple[Badge, ...]) -> ModelView:
    entry, rollout = ranked.entry, facts.rollout
    info = next((worker.info for worker in workers if worker.info is not None), None)
    status, reason = status_of(ranked.key, rollout=rollout, workers=workers, serving=facts.serving)
    if ranked.excluded is not None:
        status, reason = "failed", ranked.excluded.text
    return ModelView(
        id=ranked.model,
        version=ranked.key,
        rank=ranked.rank,
        uid=entry.uid if entry else None,
        hotkey=entry.hotkey if entry else None,
        block=entry.block if entry else None,
        incentive=entry.incentive if entry else None,
        emission=entry.emission if entry else None,
        status=status,
        status_reason=reason,
        mode=_mode(info) if info else None,
        languages=info.languages if info else None,
        share=_share(ranked.key, status, rollout),
        metrics=ranked.scores.metrics,
        failing=ranked.scores.failing,
        failure=ranked.scores.failure,
        live=_live(facts.live.get(ranked.key)),
        rating=facts.ratings.get(ranked.key),
        feedback=facts.feedback.get(ranked.key),
        miner=ranked.scores.miner,
        badges=given,
    )


def _mode(info: EngineInfo) -> Mode:
    return "duplex" if info.duplex else "turn_based"


def _share(key: str, status: Status, rollout: Rollout) -> float:
    """Of new sessions that ask for no model."""
    if key == rollout.candidate:
        return rollout.share
    return round(1.0 - rollout.share, 6) if status == "serving" else 0.0


def _live(stats: LiveStats | None) -> LiveView | None:
    if stats is None:
        return None
    return LiveView(
        turns=stats.turns,
        gap_p50_ms=stats.gap_p50,
        gap_p95_ms=stats.gap_p95,
        frames=stats.frames,
        misses=stats.misses,
        sessions=stats.sessions,
        errors=stats.errors,
    )


def _metrics(measured: Collection[str]) -> tuple[MetricView, ...]:
    """The metrics that any model has, and the total."""
    shown = (metric for name, metric in METRICS.items() if name == TOTAL or name in measured)
    return tuple(
        MetricView(id=metric.id, title=metric.title, unit=metric.unit, better=metric.better, about=metric.about)
        for metric in shown
    )


def _excluded(facts: Facts) -> Iterable[ExcludedView]:
    for ranked in facts.ranking:
        if ranked.excluded is not None and not _is_shown(ranked):
            entry = ranked.entry
            yield ExcludedView(
                uid=entry.uid if entry else None,
                hotkey=entry.hotkey if entry else None,
                model=ranked.key,
                code=ranked.excluded.code,
                reason=ranked.excluded.text,
            )
    for dropped in facts.state.snapshot.dropped if facts.state.snapshot else ():
        yield ExcludedView(
            uid=dropped.uid,
            hotkey=dropped.hotkey,
            model=dropped.version,
            code=dropped.code,
            reason=dropped.reason,
        )


def _validators(facts: Facts) -> Iterable[ValidatorView]:
    listed = {entry.hotkey: entry for entry in facts.state.snapshot.validators} if facts.state.snapshot else {}
    heard = {standing.hotkey: standing for standing in facts.scoreboard.validators}
    for hotkey in dict.fromkeys((*listed, *heard)):
        entry, standing = listed.get(hotkey), heard.get(hotkey)
        yield ValidatorView(
            hotkey=hotkey,
            uid=entry.uid if entry else None,
            stake=entry.stake if entry else None,
            last_update=entry.last_update if entry else None,
            last_run_at=standing.last_run_at if standing else None,
            version=standing.version if standing else None,
            profile=standing.profile if standing else None,
            submissions=standing.submissions if standing else 0,
            agreement=standing.agreement if standing else None,
        )


def _by_key(workers: Iterable[Worker]) -> Mapping[str, Sequence[Worker]]:
    found: dict[str, list[Worker]] = {}
    for worker in workers:
        found.setdefault(worker.key, []).append(worker)
    return found
