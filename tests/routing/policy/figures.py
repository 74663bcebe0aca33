"""Builders of leaderboards, scores, workers and live figures for the policy's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routing.fleet.contract import Worker, WorkerState
from routing.leaderboard import Entry, Snapshot, ValidatorEntry
from routing.policy.contract import LiveStats, Ranked, Rules
from routing.policy.ranking import rank
from routing.scores.standings import TOTAL, MetricStanding, MinerStanding, ModelScores, Scoreboard
from streaming.engine import EngineInfo

NOW = 1_800_000_000.0
HOUSE = "muse-embedded"


def key(name: str) -> str:
    """The version of the model that `entry` makes of this name."""
    return f"{name}/voice@{'0' * 40}"


def entry(name: str, incentive: float, *, uid: int = 1, block: int = 1, competition: str | None = "v1") -> Entry:
    return Entry(
        uid=uid,
        hotkey=f"hotkey-{name}",
        model=f"{name}/voice",
        commit="0" * 40,
        block=block,
        competition=competition,
        incentive=incentive,
    )


def house(incentive: float = 0.0) -> Entry:
    """What comes with Muse, listed."""
    return Entry(uid=0, hotkey=None, model=HOUSE, commit=None, block=0, competition=None, incentive=incentive)


def snapshot(*entries: Entry, validators: Sequence[ValidatorEntry] = ()) -> Snapshot:
    return Snapshot(
        source="chain",
        network="test",
        netuid=21,
        competition=None,
        block=1000,
        taken_at=NOW,
        entries=entries,
        validators=tuple(validators),
    )


def total(
    average: float,
    *,
    spread: float = 0.01,
    samples: int = 12,
    age: float = 60.0,
    trend: Sequence[float] = (),
) -> MetricStanding:
    return MetricStanding(
        average=average,
        low=average - spread,
        high=average + spread,
        latest=average,
        samples=samples,
        validators=3,
        agreement=1.0,
        updated_at=NOW - age,
        trend=tuple((NOW - len(trend) + at, value) for at, value in enumerate(trend)),
    )


def scored(
    average: float | None, *, failing: bool = False, failure: str | None = None, miner: MinerStanding | None = None
) -> ModelScores:
    metrics = {} if average is None else {TOTAL: total(average)}
    return ModelScores(metrics=metrics, failing=failing, failure=failure, miner=miner or MinerStanding())


def ranking(
    *models: tuple[str, float, float | None], own: Sequence[str] = (), rules: Rules | None = None, now: float = NOW
) -> tuple[Ranked, ...]:
    """Of models given as (name, incentive, measured total)."""
    entries = [entry(name, incentive, uid=uid) for uid, (name, incentive, _) in enumerate(models, start=1)]
    scores = {key(name): scored(average) for name, _, average in models}
    return rank(snapshot(*entries), Scoreboard(models=scores), served=own, rules=rules or Rules(), now=now)


def worker(
    of: str,
    *,
    number: int = 0,
    state: WorkerState = "ready",
    slots: int | None = 16,
    free: int | None = 8,
    duplex: bool = True,
    languages: tuple[str, ...] = ("en",),
    problem: str | None = None,
) -> Worker:
    info = EngineInfo(model=of, input_rate=24_000, output_rate=24_000, duplex=duplex, languages=languages)
    return Worker(
        id=f"{of}#{number}",
        address=f"ws://127.0.0.1:{number + 1}",
        key=of,
        state=state,
        info=info,
        slots=slots,
        free=free,
        problem=problem,
    )


def live(**gaps: float) -> Mapping[str, LiveStats]:
    """Healthy figures, by name, with this p95 gap in ms."""
    return {key(name): stats(gap) for name, gap in gaps.items()}


def stats(
    gap: float,
    *,
    turns: int = 100,
    misses: float = 0.0,
    errors: float = 0.0,
    sessions: int = 50,
    total_turns: int = 100,
) -> LiveStats:
    return LiveStats(
        turns=turns,
        gap_p50=gap * 0.7,
        gap_p95=gap,
        frames=100_000,
        misses=misses,
        sessions=sessions,
        errors=errors,
        total_turns=total_turns,
    )
