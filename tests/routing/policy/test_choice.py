from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet.contract import Worker, WorkerState
from routing.policy.choice import (
    MOST_PASSED_OVER,
    RefusedModelError,
    UnknownModelError,
    choose,
    means_auto,
    offered,
)
from routing.policy.contract import (
    Bar,
    Choice,
    LiveTable,
    Mode,
    Ranked,
    Reason,
    Rollout,
    Rules,
    SessionNeeds,
    Stage,
)
from streaming.errors import EngineBusyError
from tests.routing.policy.figures import HOUSE, key, live, ranking, stats, worker

RANKING = ranking(("ann", 0.5, 0.6), ("bob", 0.3, 0.6), ("cat", 0.2, 0.6))
ANN, BOB, CAT = key("ann"), key("bob"), key("cat")
SETTLED = Rollout(incumbent=ANN, listed=True)
CANARY = Rollout(stage="canary", incumbent=BOB, candidate=ANN, share=0.25, listed=True)
WORKERS = (worker(ANN), worker(BOB), worker(CAT))
SESSIONS = [f"sess_{number}" for number in range(400)]


def decide(
    needs: SessionNeeds | None = None,
    *,
    session_id: str = "sess_1",
    models: Sequence[Ranked] = RANKING,
    workers: Sequence[Worker] = WORKERS,
    rollout: Rollout = SETTLED,
    timings: LiveTable | None = None,
    rules: Rules | None = None,
    refused: Mapping[str, Reason] | None = None,
) -> Choice:
    return choose(
        needs or SessionNeeds(),
        session_id=session_id,
        ranking=models,
        workers=workers,
        rollout=rollout,
        live=timings or {},
        rules=rules or Rules(),
        refused=refused,
    )


def passed(choice: Choice) -> dict[str, str]:
    return {version: reason.code for version, reason in choice.passed_over}


# --- who names no model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [None, "", "auto", "gpt-realtime", "gpt-realtime-mini", "gpt-realtime-2025-08-28", "gpt-4o-realtime-preview"],
)
def test_names_that_leave_the_choice_to_the_router(name: str | None) -> None:
    assert means_auto(name)
    choice = decide(SessionNeeds(model=name))
    assert (choice.key, choice.model, choice.role) == (ANN, "ann/voice", "incumbent")
    assert choice.workers == (worker(ANN),)
    assert choice.passed_over == ()
    assert [reason.code for reason in choice.reasons] == ["incumbent", "incentive", "scored"]


def test_the_incumbent_serves_though_another_leads_and_the_other_is_told_why() -> None:
    choice = decide(rollout=Rollout(incumbent=CAT, listed=True))
    assert (choice.key, choice.role) == (CAT, "incumbent")
    assert passed(choice) == {ANN: "not_promoted", BOB: "not_promoted"}


def test_a_candidate_that_waits_is_told_in_the_rollouts_words() -> None:
    reason = Reason(code="challenged", text="it must lead for longer")
    choice = decide(rollout=Rollout(stage="watching", incumbent=BOB, candidate=ANN, reason=reason))
    assert choice.passed_over == ((ANN, reason),)


def test_before_anything_is_decided_the_best_of_the_ranking_serves() -> None:
    choice = decide(rollout=Rollout())
    assert (choice.key, choice.role) == (ANN, "fallback")


def test_a_canary_gets_its_share_of_sessions_and_always_the_same() -> None:
    roles = {session: decide(session_id=session, rollout=CANARY).role for session in SESSIONS}
    assert set(roles.values()) == {"incumbent", "candidate"}
    share = sum(role == "candidate" for role in roles.values()) / len(roles)
    assert abs(share - 0.25) < 0.08
    assert roles == {session: decide(session_id=session, rollout=CANARY).role for session in SESSIONS}
    assert not any(decide(session_id=session, rollout=replace(CANARY, share=0.0)).key == ANN for session in SESSIONS)


def test_of_a_canary_that_has_no_room_the_session_goes_to_the_incumbent() -> None:
    session = next(s for s in SESSIONS if decide(session_id=s, rollout=CANARY).role == "candidate")
    choice = decide(session_id=session, rollout=CANARY, workers=(worker(ANN, free=0), worker(BOB)))
    assert (choice.key, choice.role) == (BOB, "incumbent")
    assert passed(choice) == {ANN: "full"}


def test_a_canary_beyond_its_share_is_the_last_resort() -> None:
    session = next(s for s in SESSIONS if decide(session_id=s, rollout=CANARY).role == "incumbent")
    full = worker(BOB, free=0)
    assert decide(session_id=session, rollout=CANARY, workers=(worker(ANN), full, worker(CAT))).key == CAT
    assert decide(session_id=session, rollout=CANARY, workers=(worker(ANN), full)).key == ANN


@pytest.mark.parametrize(
    ("state", "code"),
    [("starting", "not_ready"), ("draining", "not_ready"), ("lost", "not_ready"), ("overloaded", "overloaded")],
)
def test_a_model_whose_workers_cannot_take_the_session_is_passed_over(state: WorkerState, code: str) -> None:
    choice = decide(workers=(worker(ANN, state=state), worker(BOB)))
    assert (choice.key, choice.role) == (BOB, "fallback")
    assert passed(choice) == {ANN: code}


def test_a_checkpoint_with_the_wrong_hash_is_passed_over_in_its_words() -> None:
    broken = worker(ANN, state="failed", problem="sha256 of model.safetensors is not the committed one", free=None)
    choice = decide(workers=(broken, worker(BOB)))
    assert choice.key == BOB
    ((version, reason),) = choice.passed_over
    assert version == ANN
    assert reason.code == "worker_failed"
    assert "sha256 of model.safetensors" in reason.text


def test_an_excluded_or_barred_version_is_never_fallen_back_to() -> None:
    failing = replace(RANKING[1], rank=None, excluded=Reason(code="failing", text="it fails"))
    rollout = replace(SETTLED, barred=(Bar(key=CAT, until=1.0, reason=Reason(code="slower", text="too slow")),))
    with pytest.raises(EngineBusyError):
        decide(
            models=(RANKING[0], RANKING[2], failing),
            rollout=rollout,
            workers=(worker(ANN, free=0), worker(BOB), worker(CAT)),
        )


def test_a_lie_on_the_leaderboard_is_not_fallen_back_to() -> None:
    models = ranking(("liar", 0.9, 0.1), ("ann", 0.1, 0.6), own=[HOUSE])
    workers = (worker(key("liar")), worker(ANN, free=0), worker(HOUSE))
    choice = decide(models=models, workers=workers)
    assert choice.key == HOUSE
    assert passed(choice) == {ANN: "full", key("liar"): "low_score"}


def test_who_shadows_is_not_fallen_back_to() -> None:
    rollout = Rollout(stage="shadow", incumbent=BOB, candidate=ANN)
    assert decide(rollout=rollout, workers=(worker(ANN), worker(BOB, free=0), worker(CAT))).key == CAT


def test_workers_that_refused_are_not_tried_again() -> None:
    said = Reason(code="engine_busy", text="all 16 slots are taken")
    choice = decide(refused={worker(ANN).id: said})
    assert choice.key == BOB
    assert choice.passed_over == ((ANN, said),)
    other = worker(ANN, number=1)
    assert decide(workers=(*WORKERS, other), refused={worker(ANN).id: said}).workers == (other,)


def test_passed_over_is_bounded() -> None:
    models = ranking(*((f"m{number}", 0.5 - number / 100, 0.6) for number in range(40)))
    choice = decide(models=models, rollout=Rollout(), workers=(worker(key("m39")),))
    assert choice.key == key("m39")
    assert len(choice.passed_over) == MOST_PASSED_OVER
    assert choice.passed_over[0] == (key("m0"), Reason(code="no_worker", text="no worker has it"))


# --- what is needed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "version"), [("duplex", BOB), ("turn_based", ANN), (None, ANN)])
def test_the_mode(mode: Mode | None, version: str) -> None:
    workers = (worker(ANN, duplex=False), worker(BOB, duplex=True))
    assert decide(SessionNeeds(mode=mode), workers=workers).key == version


@pytest.mark.parametrize(("language", "version"), [("de", BOB), ("de-CH", BOB), ("en-GB", ANN), ("DE", BOB)])
def test_the_language(language: str, version: str) -> None:
    workers = (worker(ANN, languages=("en",)), worker(BOB, languages=("en", "de-DE")))
    assert decide(SessionNeeds(language=language), workers=workers).key == version


def test_the_latency_class_goes_by_what_was_measured_here() -> None:
    needs, slow = SessionNeeds(latency="interactive"), live(ann=900.0)
    assert decide(needs, timings=slow).key == BOB
    assert passed(decide(needs, timings=slow)) == {ANN: "latency"}
    assert decide(SessionNeeds(latency="relaxed"), timings=slow).key == ANN
    assert decide(needs, timings=live(ann=700.0)).key == ANN
    assert decide(needs, timings={}).key == ANN
    assert decide(needs, timings={ANN: stats(900.0, turns=19)}).key == ANN
    assert decide(needs, timings=slow, rules=Rules(interactive_gap=1000.0)).key == ANN


def test_a_worker_that_has_not_said_what_it_is_may_fit() -> None:
    workers = (replace(worker(ANN), info=None),)
    assert decide(SessionNeeds(mode="duplex", language="de"), workers=workers).key == ANN


def test_what_a_tenant_denies_and_pins() -> None:
    assert decide(SessionNeeds(deny=("ann/voice",))).key == BOB
    assert decide(SessionNeeds(deny=(ANN, "bob/voice"))).key == CAT
    choice = decide(SessionNeeds(pin=("cat/voice", BOB)))
    assert (choice.key, choice.role) == (BOB, "pinned")
    with pytest.raises(EngineBusyError):
        decide(SessionNeeds(pin=("ann/voice",)), workers=(worker(ANN, free=0), worker(BOB)))


# --- who names a model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bob/voice", BOB])
def test_a_model_is_had_by_name_and_by_version(name: str) -> None:
    choice = decide(SessionNeeds(model=name))
    assert (choice.key, choice.role) == (BOB, "requested")
    assert choice.reasons[0].code == "requested"


def test_who_asks_for_a_model_gets_no_other() -> None:
    with pytest.raises(EngineBusyError) as raised:
        decide(SessionNeeds(model="bob/voice"), workers=(worker(ANN), worker(BOB, free=0)))
    assert raised.value.retry_after == 5.0
    assert "bob/voice@0000000: its workers are full" in raised.value.message


def test_a_worker_that_is_starting_is_waited_for_longer() -> None:
    with pytest.raises(EngineBusyError) as raised:
        decide(SessionNeeds(model="bob/voice"), workers=(worker(BOB, state="starting"),))
    assert raised.value.retry_after == 15.0


def test_a_model_may_be_asked_for_though_the_gate_does_not_let_it_in() -> None:
    models = ranking(("liar", 0.9, 0.1), ("ann", 0.1, 0.6))
    assert decide(SessionNeeds(model="liar/voice"), models=models, workers=(worker(key("liar")),)).key == key("liar")


def test_a_model_called_auto_is_had_by_its_name() -> None:
    models = ranking(("ann", 0.5, 0.6), own=["gpt-realtime"])
    choice = decide(SessionNeeds(model="gpt-realtime"), models=models, workers=(worker(ANN), worker("gpt-realtime")))
    assert choice.key == "gpt-realtime"


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownModelError) as raised:
        decide(SessionNeeds(model="llama"), rollout=Rollout(incumbent=BOB))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert raised.value.message == ("There is no model 'llama' here; there is: auto, bob/voice, ann/voice, cat/voice.")


def test_a_long_name_is_not_echoed_whole() -> None:
    with pytest.raises(UnknownModelError) as raised:
        decide(SessionNeeds(model="x" * 10_000))
    assert len(raised.value.message) < 200


def test_many_names_are_not_all_told() -> None:
    models = ranking(*((f"m{number}", 0.01, 0.6) for number in range(100)))
    workers = [worker(model.key) for model in models]
    with pytest.raises(UnknownModelError, match="and 80 more"):
        decide(SessionNeeds(model="llama"), models=models, workers=workers)


@pytest.mark.parametrize("name", ["ann/voice", ANN])
def test_a_version_that_is_out_is_refused_with_its_reason(name: str) -> None:
    failing = replace(RANKING[0], rank=None, excluded=Reason(code="failing", text="it fails: no audio"))
    barred = replace(
        SETTLED, barred=(Bar(key=ANN, until=1.0, reason=Reason(code="slower", text="its p95 gap is 2 s")),)
    )
    with pytest.raises(RefusedModelError, match=r"ann/voice@0000000' is not served: it fails: no audio\.") as raised:
        decide(SessionNeeds(model=name), models=(RANKING[1], failing))
    assert (raised.value.code, raised.value.param) == ("model_not_served", "model")
    with pytest.raises(RefusedModelError, match="taken out of service: its p95 gap is 2 s"):
        decide(SessionNeeds(model=name), rollout=barred)
    with pytest.raises(RefusedModelError, match="the tenant is never served it"):
        decide(SessionNeeds(model=name, deny=("ann/voice",)))
    with pytest.raises(RefusedModelError, match="the tenant is served other models only"):
        decide(SessionNeeds(model=name, pin=("bob/voice",)))
    with pytest.raises(RefusedModelError, match="no worker has it"):
        decide(SessionNeeds(model=name), workers=(worker(BOB),))
    with pytest.raises(RefusedModelError, match="it is turn-based"):
        decide(SessionNeeds(model=name, mode="duplex"), workers=(worker(ANN, duplex=False),))


def test_of_two_versions_the_one_that_is_not_out_is_meant() -> None:
    models = ranking(("ann", 0.5, 0.6), own=["ann/voice@" + "1" * 40])
    failing = replace(models[0], rank=None, excluded=Reason(code="failing", text="it fails"))
    other = models[1]
    choice = decide(SessionNeeds(model="ann/voice"), models=(other, failing), workers=(worker(other.key), worker(ANN)))
    assert choice.key == other.key


# --- nobody ----------------------------------------------------------------------------------------------------------


def test_where_nothing_meets_the_need_it_is_named() -> None:
    with pytest.raises(UnknownModelError, match=r"\(duplex, fr\); there is: auto, ann/voice\.") as raised:
        decide(SessionNeeds(mode="duplex", language="fr"), workers=(worker(ANN, duplex=False),))
    assert raised.value.code == "model_not_found"


def test_where_there_is_nothing_at_all_that_is_said() -> None:
    with pytest.raises(UnknownModelError, match="No model is here; there is: none"):
        decide(models=(), workers=(), rollout=Rollout())


def test_where_all_are_full_it_is_said_when_to_try_again() -> None:
    with pytest.raises(EngineBusyError) as raised:
        decide(workers=[worker(version, free=0) for version in (ANN, BOB, CAT)])
    assert raised.value.retry_after == 5.0


# --- workers ---------------------------------------------------------------------------------------------------------


def test_the_worker_with_most_room_is_tried_first_and_one_that_does_not_say_last() -> None:
    workers = (
        worker(ANN, number=0, free=None),
        worker(ANN, number=1, free=3),
        worker(ANN, number=2, free=9),
        worker(ANN, number=3, free=0),
        worker(ANN, number=4, state="lost"),
    )
    assert [found.id[-1] for found in decide(workers=workers).workers] == ["2", "1", "0"]


def test_sessions_spread_over_workers_with_equal_room() -> None:
    workers = [worker(ANN, number=number) for number in range(4)]
    first = [decide(session_id=session, workers=workers).workers[0].id for session in SESSIONS]
    assert all(60 < first.count(candidate.id) < 140 for candidate in workers)
    assert first == [decide(session_id=s, workers=workers[::-1]).workers[0].id for s in SESSIONS]


def test_what_can_be_asked_for_by_name() -> None:
    workers = (worker(ANN, state="starting"), worker(BOB, state="overloaded"), worker(CAT, free=0))
    assert offered(RANKING, workers, Rollout(incumbent=CAT)) == ("cat/voice", "bob/voice")


# --- shadow ----------------------------------------------------------------------------------------------------------

SHADOW = Rollout(stage="shadow", incumbent=BOB, candidate=ANN)
ALL = Rules(shadow_share=1.0)


def test_a_share_of_the_incumbents_calls_is_heard_by_the_candidate() -> None:
    heard = [decide(session_id=session, rollout=SHADOW).shadow for session in SESSIONS]
    assert 15 < sum(found is not None for found in heard) < 70
    assert {found.key for found in heard if found is not None} == {ANN}
    assert all(decide(session_id=session, rollout=SHADOW).key == BOB for session in SESSIONS)


@pytest.mark.parametrize("stage", ["settled", "watching", "gated", "loading", "canary", "rolled_back"])
def test_there_is_a_shadow_in_no_other_stage(stage: Stage) -> None:
    assert decide(rollout=replace(SHADOW, stage=stage), rules=ALL).shadow is None


def test_a_tenant_who_denies_or_pins_is_not_heard_by_others() -> None:
    assert decide(rollout=SHADOW, rules=ALL).shadow == worker(ANN)
    assert decide(SessionNeeds(deny=("ann/voice",)), rollout=SHADOW, rules=ALL).shadow is None
    assert decide(SessionNeeds(pin=("bob/voice",)), rollout=SHADOW, rules=ALL).shadow is None
    assert decide(SessionNeeds(model="bob/voice"), rollout=SHADOW, rules=ALL).shadow is None


def test_there_is_no_shadow_where_the_candidate_has_no_room_or_does_not_fit() -> None:
    assert decide(rollout=SHADOW, rules=ALL, workers=(worker(ANN, free=0), worker(BOB))).shadow is None
    workers = (worker(ANN, duplex=False), worker(BOB))
    assert decide(SessionNeeds(mode="duplex"), rollout=SHADOW, rules=ALL, workers=workers).shadow is None


# --- always ----------------------------------------------------------------------------------------------------------

names_of = st.sampled_from(["ann", "bob", "cat", "dan"])
states = st.sampled_from(["ready", "starting", "overloaded", "draining", "lost", "failed"])


@given(
    st.dictionaries(names_of, st.tuples(st.floats(0, 1), st.none() | st.floats(0.01, 1), st.booleans()), min_size=1),
    st.lists(st.tuples(names_of, states, st.none() | st.integers(0, 2)), max_size=6),
    st.sampled_from(["settled", "watching", "gated", "loading", "shadow", "canary", "rolled_back"]),
    st.tuples(st.none() | names_of, st.none() | names_of, st.none() | names_of),
    st.floats(0, 1),
)
def test_auto_never_gets_what_is_out(
    drawn: dict[str, tuple[float, float | None, bool]],
    there: list[tuple[str, WorkerState, int | None]],
    stage: Stage,
    roles: tuple[str | None, str | None, str | None],
    share: float,
) -> None:
    models = ranking(*((name, incentive, average) for name, (incentive, average, _) in drawn.items()))
    out = {key(name) for name, (_, _, excluded) in drawn.items() if excluded}
    failing = Reason(code="failing", text="it fails")
    models = tuple(replace(m, rank=None, excluded=failing) if m.key in out else m for m in models)
    incumbent, candidate, barred = (key(name) if name else None for name in roles)
    rollout = Rollout(
        stage=stage,
        incumbent=incumbent,
        candidate=candidate,
        share=share if stage == "canary" else 0.0,
        barred=(Bar(key=barred, until=1.0, reason=failing),) if barred else (),
    )
    workers = [worker(key(name), number=n, state=state, free=free) for n, (name, state, free) in enumerate(there)]
    try:
        choice = decide(models=models, workers=workers, rollout=rollout)
    except (UnknownModelError, EngineBusyError):
        takers = {w.key for w in workers if w.takes} - out - {barred}
        assert incumbent not in takers or incumbent not in {m.key for m in models}
        return
    assert choice.key not in {*out, barred}
    assert choice.workers
    assert all(found.takes and found.key == choice.key for found in choice.workers)
    assert choice.role != "candidate" or stage == "canary"
    assert choice.shadow is None or (stage == "shadow" and choice.shadow.key == candidate and candidate != barred)
