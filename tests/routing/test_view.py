from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest

from routing.duels.ratings import Rating
from routing.feedback.store import FeedbackSummary
from routing.fleet.contract import Worker, WorkerState
from routing.leaderboard import Dropped, Entry, Snapshot, SourceState, ValidatorEntry
from routing.policy.choice import choose
from routing.policy.contract import Bar, LiveStats, Reason, Rollout, Rules, SessionNeeds, Stage
from routing.policy.ranking import rank
from routing.protocol import Status
from routing.scores.standings import (
    MetricStanding,
    MinerStanding,
    ModelScores,
    Scoreboard,
    ValidatorStanding,
)
from routing.view import MOST_POINTS, Facts, status_of, thinned, view, view_decision, view_served
from streaming.engine import EngineInfo
from streaming.schema import to_json

BEST, NEW, BURNT, MUTE = (
    f"acme/{name}@{digit * 40}" for name, digit in (("best", "1"), ("new", "2"), ("burnt", "3"), ("mute", "4"))
)
RULES = Rules(burn_uid=3, min_samples=0)
NOW = 1_000_000.0


def entry(uid: int, key: str, incentive: float) -> Entry:
    model, _, commit = key.partition("@")
    return Entry(
        uid=uid,
        hotkey=f"5Hotkey{uid}",
        model=model,
        commit=commit,
        block=uid,
        competition="v1",
        incentive=incentive,
        emission=10 * incentive,
    )


SNAPSHOT = Snapshot(
    source="chain",
    network="finney",
    netuid=21,
    competition="v1",
    block=500,
    taken_at=NOW - 10,
    entries=(entry(1, BEST, 0.5), entry(2, NEW, 0.3), entry(3, BURNT, 0.1), entry(4, MUTE, 0.1)),
    validators=(ValidatorEntry(uid=7, hotkey="5Listed", stake=9.0, last_update=499),),
    dropped=(Dropped(uid=9, hotkey="5Dropped", code="reused_hash", reason="its hash is another's"),),
)


def standing(points: int = 2) -> MetricStanding:
    return MetricStanding(
        average=0.6,
        low=0.5,
        high=0.7,
        latest=0.6,
        samples=points,
        validators=1,
        agreement=1.0,
        updated_at=NOW,
        trend=tuple((float(number), 0.6) for number in range(points)),
    )


SCOREBOARD = Scoreboard(
    models={
        BEST: ModelScores(
            metrics={"total": standing(64), "wer": standing(64)}, miner=MinerStanding(streak=4, reputation=0.6)
        ),
        MUTE: ModelScores(metrics={"total": standing()}, failing=True, failure="no audio"),
    },
    validators=(
        ValidatorStanding(
            hotkey="5Scorer", version="1.0", profile="p", last_run_at=NOW - 5, submissions=3, agreement=0.9
        ),
    ),
)


def worker(key: str, state: WorkerState = "ready", *, duplex: bool = True, problem: str | None = None) -> Worker:
    info = EngineInfo(
        model=key, input_rate=24_000, output_rate=24_000, duplex=duplex, voices=("a",), languages=("en", "de")
    )
    return Worker(id=f"w-{key}-{state}", address="ws://w", key=key, state=state, info=info, problem=problem)


def facts(*workers: Worker, rollout: Rollout | None = None) -> Facts:
    rollout = rollout or Rollout(stage="settled", incumbent=BEST, reason=Reason(code="leads", text="it leads"))
    ranking = rank(SNAPSHOT, SCOREBOARD, served=[one.key for one in workers], rules=RULES, now=NOW)
    serving = None
    if workers:
        serving = choose(
            SessionNeeds(), session_id="", ranking=ranking, workers=workers, rollout=rollout, live={}, rules=RULES
        )
    return Facts(
        state=SourceState(snapshot=SNAPSHOT, age=10.0, stale=False, problem=None),
        scoreboard=SCOREBOARD,
        ranking=ranking,
        workers=workers,
        rollout=rollout,
        live={BEST: LiveStats(turns=2, gap_p50=300.0, gap_p95=400.0, sessions=1, errors=0.0)},
        rules=RULES,
        serving=serving,
        ratings={BEST: Rating(value=1510.0, low=1500.0, high=1520.0, votes=20)},
        feedback={BEST: FeedbackSummary(ratings=31, mean=4.2)},
    )


def test_a_model_is_shown_with_all_that_is_known_of_it() -> None:
    board = view(facts(worker(BEST)))
    best = board.models[0]
    assert (best.id, best.version, best.rank, best.uid, best.hotkey) == ("acme/best", BEST, 1, 1, "5Hotkey1")
    assert (best.incentive, best.emission, best.block) == (0.5, 5.0, 1)
    assert (best.status, best.status_reason, best.share) == ("serving", "it leads", 1.0)
    assert (best.mode, best.languages) == ("duplex", ("en", "de"))
    assert best.live is not None
    assert (best.live.turns, best.live.gap_p95_ms, best.live.misses) == (2, 400.0, None)
    assert best.rating is not None
    assert (best.rating.value, best.feedback) == (1510.0, FeedbackSummary(ratings=31, mean=4.2))
    assert best.miner.streak == 4
    assert "top" in [badge.id for badge in best.badges]
    assert [metric.id for metric in board.metrics] == ["total", "wer"]


def test_what_is_not_known_is_null() -> None:
    new = to_json(view(facts(worker(BEST))))["models"][1]
    assert (new["status"], new["failing"], new["failure"]) == ("waiting", False, None)
    assert [new[name] for name in ("mode", "languages", "live", "rating", "feedback")] == [None] * 5
    assert (new["metrics"], new["badges"], new["share"]) == ({}, new["badges"], 0.0)
    assert set(new["miner"].values()) == {None}


def test_a_model_that_fails_keeps_its_figures_and_has_no_rank() -> None:
    board = view(facts(worker(BEST), worker(MUTE)))
    mute = board.models[-1]
    assert (mute.version, mute.rank, mute.status, mute.status_reason) == (MUTE, None, "failed", "it fails: no audio")
    assert (mute.failing, mute.failure, list(mute.metrics)) == (True, "no audio", ["total"])
    assert MUTE not in [one.model for one in board.excluded]


def test_the_json_has_the_fields_of_the_protocol_and_no_others() -> None:
    board = to_json(view(facts(worker(BEST))))
    json.dumps(board, allow_nan=False)
    assert list(board) == [
        "object",
        "source",
        "network",
        "netuid",
        "competition",
        "block",
        "taken_at",
        "age_seconds",
        "stale",
        "problem",
        "metrics",
        "models",
        "excluded",
        "validators",
        "rollout",
    ]
    assert set(board["models"][0]["metrics"]["total"]) == {
        "average",
        "low",
        "high",
        "latest",
        "samples",
        "validators",
        "agreement",
        "updated_at",
        "trend",
    }


def test_trends_are_thinned_from_end_to_end_but_for_the_totals() -> None:
    metrics = view(facts(worker(BEST))).models[0].metrics
    assert thinned("total", metrics["total"]) == metrics["total"]
    kept = [at for at, _ in thinned("wer", metrics["wer"]).trend]
    assert (len(kept), kept[0], kept[-1]) == (MOST_POINTS, 0.0, 63.0)
    assert kept == sorted(set(kept))
    short = standing(MOST_POINTS)
    assert thinned("wer", short) == short


def test_what_is_excluded_says_why() -> None:
    excluded = {one.code: one for one in view(facts()).excluded}
    assert (excluded["burn_uid"].model, excluded["burn_uid"].uid) == (BURNT, 3)
    assert (excluded["reused_hash"].model, excluded["reused_hash"].hotkey) == (None, "5Dropped")


def test_validators_are_those_of_the_chain_and_those_who_scored() -> None:
    listed, scorer = view(facts()).validators
    assert (listed.uid, listed.stake, listed.last_run_at, listed.submissions) == (7, 9.0, None, 0)
    assert (scorer.hotkey, scorer.uid, scorer.profile, scorer.submissions) == ("5Scorer", None, "p", 3)


def test_an_empty_leaderboard_says_why() -> None:
    empty = replace(facts(), ranking=(), state=SourceState(snapshot=None, age=None, stale=True, problem=None))
    board = view(empty)
    assert (board.models, board.source, board.stale) == ((), None, True)
    assert board.problem is not None
    told = replace(empty.state, problem="the chain does not answer")
    assert view(replace(empty, state=told)).problem == "the chain does not answer"


@pytest.mark.parametrize(
    ("workers", "rollout", "status", "reason"),
    [
        ((), Rollout(), "waiting", "no worker has it"),
        ((worker(NEW, "starting"),), Rollout(), "loading", "loads"),
        ((worker(NEW, "failed", problem="it is too large"),), Rollout(), "failed", "it is too large"),
        ((worker(NEW, "lost"),), Rollout(), "failed", "does not answer"),
        ((worker(NEW, "draining"),), Rollout(), "waiting", "finished"),
        ((worker(NEW),), Rollout(incumbent=BEST), "ready", "another is chosen"),
        ((worker(NEW), worker(NEW, "lost")), Rollout(incumbent=NEW), "serving", "nothing has been decided"),
        ((worker(NEW),), Rollout(), "serving", "it is the best of those"),
        ((worker(NEW, "starting"),), Rollout(incumbent=NEW), "loading", "loads"),
        (
            (worker(NEW),),
            Rollout(stage="canary", incumbent=NEW, candidate=BEST, reason=Reason(code="c", text="BEST is on trial")),
            "serving",
            "it serves those who ask for no model",
        ),
        (
            (worker(NEW),),
            Rollout(stage="canary", incumbent=BEST, candidate=NEW, reason=Reason(code="c", text="on trial")),
            "candidate",
            "on trial",
        ),
        (
            (worker(NEW),),
            Rollout(incumbent=BEST, barred=(Bar(key=NEW, until=1.0, reason=Reason(code="slow", text="too slow")),)),
            "barred",
            "too slow",
        ),
    ],
)
def test_status(workers: tuple[Worker, ...], rollout: Rollout, status: Status, reason: str) -> None:
    ready = workers if rollout.incumbent != BEST else (worker(BEST),)
    serving = facts(*ready, rollout=rollout).serving if ready and ready[0].state == "ready" else None
    found, why = status_of(NEW, rollout=rollout, workers=workers, serving=serving)
    assert found == status
    assert reason in why


@pytest.mark.parametrize("stage", get_args(Stage))
def test_shares_of_new_sessions_add_up(stage: Stage) -> None:
    rollout = Rollout(stage=stage, incumbent=BEST, candidate=NEW, share=0.25 if stage == "canary" else 0.0)
    board = view(facts(worker(BEST), worker(NEW), rollout=rollout))
    assert sum(model.share for model in board.models) == 1.0
    assert board.models[1].share == rollout.share


def test_models_that_can_be_asked_for_are_listed_the_serving_one_first() -> None:
    found = facts(worker(BEST), worker(NEW, duplex=False), worker(BURNT), rollout=Rollout(incumbent=NEW))
    served = view_served(ranking=found.ranking, workers=found.workers, rollout=found.rollout, serving=found.serving)
    assert [(one.version, one.status, one.rank, one.mode) for one in served] == [
        (NEW, "serving", 2, "turn_based"),
        (BEST, "ready", 1, "duplex"),
    ]
    assert (served[0].hotkey, served[0].voices) == ("5Hotkey2", ("a",))


def test_what_was_taken_out_of_service_cannot_be_asked_for() -> None:
    bar = Bar(key=NEW, until=1.0, reason=Reason(code="slow", text="too slow"))
    found = facts(worker(BEST), worker(NEW), rollout=Rollout(incumbent=BEST, barred=(bar,)))
    served = view_served(ranking=found.ranking, workers=found.workers, rollout=found.rollout, serving=found.serving)
    assert [one.version for one in served] == [BEST]


def test_who_answers_while_the_incumbent_is_away_is_shown_as_serving() -> None:
    found = facts(worker(BEST, "lost"), worker(NEW))
    served = view_served(ranking=found.ranking, workers=found.workers, rollout=found.rollout, serving=found.serving)
    assert [(one.version, one.status) for one in served] == [(NEW, "serving")]
    board = view(found)
    best, new = board.models[:2]
    assert (best.status, best.share) == ("failed", 0.0)
    assert (new.status, new.status_reason, new.share) == (
        "serving",
        "it is the best of those that can take the session now",
        1.0,
    )
    assert board.rollout.incumbent == BEST


def test_an_incumbent_that_is_full_serves_all_the_same() -> None:
    full = replace(worker(BEST), slots=1, free=0)
    board = view(facts(full, worker(NEW)))
    assert [model.status for model in board.models[:2]] == ["serving", "ready"]


def test_a_decision_is_shown_with_who_was_passed_over() -> None:
    serving = facts(worker(NEW)).serving
    assert serving is not None
    shown = view_decision(serving)
    assert (shown.version, shown.worker, shown.shadow) == (NEW, f"w-{NEW}-ready", None)
    assert [(one.version, one.code) for one in shown.passed_over] == [(BEST, "no_worker")]
