from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace

import pytest

from routing import router as module
from routing.fleet.contract import WorkerState
from routing.leaderboard import Entry, Snapshot
from routing.policy.contract import Reason, Rollout, Rules, SessionNeeds, Stage
from routing.router import Router
from routing.scores.standings import Scoreboard
from streaming.engine import EngineLost
from streaming.errors import EngineBusyError, EngineChangedError, EngineError, PeerError
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine, FakeFleet, router_for

AUTO = SessionNeeds()


def listed(*models: str) -> Snapshot:
    """A leaderboard of the operator's own, best first."""
    entries = tuple(
        Entry(uid=uid, hotkey=None, model=model, commit=None, block=0, competition=None, incentive=1 / (uid + 1))
        for uid, model in enumerate(models)
    )
    return Snapshot(source="file", network="local", netuid=0, competition=None, block=0, taken_at=0.0, entries=entries)


async def started(*engines: FakeEngine, **options: object) -> tuple[Router, FakeFleet]:
    router = router_for(*engines, **options)  # type: ignore[arg-type]
    await router.start()
    router.inform(listed(*dict.fromkeys(engine.info.model for engine in engines)), Scoreboard())
    assert isinstance(router.fleet, FakeFleet)
    return router, router.fleet


async def test_a_session_gets_the_best_model_and_the_reasons(caplog: pytest.LogCaptureFixture) -> None:
    best, other = FakeEngine("best"), FakeEngine("other")
    router, fleet = await started(best, other)
    with caplog.at_level(logging.INFO, "routing.router"):
        async with router.place(AUTO, session_id="sess_1") as placement:
            assert (best.open_now, other.open_now) == (1, 0)
            assert placement.info == best.info
            metadata = placement.metadata
        assert best.open_now == 0
    assert (metadata["muse.model"], metadata["muse.role"]) == ("best", "fallback")
    assert json.loads(metadata["muse.reasons"])[0]["code"] == "fallback"
    (record,) = [record for record in caplog.records if record.name == "routing.router"]
    fields = record.__dict__["fields"]
    assert (fields["session"], fields["version"], fields["worker"]) == ("sess_1", "best", "0")
    assert "fallback" in fields["reasons"]
    assert router.decisions == {("fallback", "best"): 1}
    assert fleet.looked_at == [("0", False)]


async def test_a_worker_that_is_full_is_passed_over_for_the_next_of_the_same_model() -> None:
    full, free = FakeEngine("m"), FakeEngine("m")
    full.refusal = EngineBusyError("full", retry_after=2)
    router, fleet = await started(full, free)
    for number in range(20):
        async with router.place(AUTO, session_id=f"sess_{number}") as placement:
            assert placement.worker.id == "1"
            tried = [reason.code for reason in placement.choice.reasons]
    assert ("0", False) in fleet.looked_at
    assert ("0", True) not in fleet.looked_at
    assert tried.count("engine_busy") <= 1
    assert router.timings()["m"].errors == 0.0


async def test_a_model_whose_workers_are_gone_is_passed_over_for_the_next(caplog: pytest.LogCaptureFixture) -> None:
    codes: list[str] = []
    gone, other = FakeEngine("best"), FakeEngine("other")
    gone.refusal = EngineError("it cannot be reached", code="unreachable", detail="a:1 refuses")
    router, fleet = await started(gone, other, on_error=codes.append)
    async with router.place(AUTO, session_id="sess_1") as placement:
        assert placement.choice.model == "other"
        assert Reason(code="unreachable", text="best: it cannot be reached") in placement.choice.reasons
        assert dict(placement.choice.passed_over)["best"].code == "unreachable"
    assert codes == ["unreachable"]
    assert fleet.looked_at == [("0", True), ("1", False)]
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    fields = record.__dict__["fields"]
    assert (fields["address"], fields["version"]) == ("0", "best")
    assert fields["problem"] == "it cannot be reached: a:1 refuses"
    assert (router.timings()["best"].errors, router.timings()["other"].errors) == (1.0, 0.0)


async def test_an_engine_with_a_defect_is_passed_over_too(caplog: pytest.LogCaptureFixture) -> None:
    codes: list[str] = []
    broken, other = FakeEngine("best"), FakeEngine("other")
    broken.refusal = RuntimeError("a secret")
    router, _ = await started(broken, other, on_error=codes.append)
    async with router.place(AUTO, session_id="sess_1") as placement:
        assert placement.choice.model == "other"
        assert "secret" not in placement.metadata["muse.reasons"]
    assert codes == ["defect"]
    assert "a conversation cannot be opened" in caplog.text


async def test_one_that_is_another_model_by_now_is_passed_over() -> None:
    best, other = FakeEngine("best"), FakeEngine("other")
    router, fleet = await started(best, other)
    best.info = FakeEngine("something else").info
    async with router.place(AUTO, session_id="sess_1") as placement:
        assert placement.choice.model == "other"
    assert best.open_now == 0
    assert ("0", True) in fleet.looked_at


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        (
            (EngineError("broken"), EngineBusyError("full", retry_after=3)),
            EngineBusyError("other: full", retry_after=3),
        ),
        (
            (EngineBusyError("full", retry_after=9), EngineBusyError("fuller", retry_after=2)),
            EngineBusyError("other: fuller", retry_after=2),
        ),
        (
            (EngineBusyError("full", retry_after=2), EngineBusyError("fuller", retry_after=9)),
            EngineBusyError("best: full", retry_after=2),
        ),
        ((EngineBusyError("full", retry_after=3), EngineError("broken")), EngineBusyError("best: full", retry_after=3)),
        ((EngineError("broken"), EngineError("gone", code="gone")), EngineError("other: gone", code="gone")),
    ],
)
async def test_where_nobody_is_left_the_caller_is_told_why(
    refusals: tuple[EngineError, EngineError], expected: EngineError
) -> None:
    engines = FakeEngine("best"), FakeEngine("other")
    for engine, refusal in zip(engines, refusals, strict=True):
        engine.refusal = refusal
    router, _ = await started(*engines)
    with pytest.raises(EngineError) as raised:
        async with router.place(AUTO, session_id="sess_1"):
            pass
    assert type(raised.value) is type(expected)
    assert (raised.value.code, raised.value.message) == (expected.code, expected.message)


async def test_a_worker_that_does_not_answer_costs_the_caller_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.02)
    monkeypatch.setattr(module, "PLACE_SECONDS", 60.0)
    codes: list[str] = []

    def failed(code: str) -> None:
        codes.append(code)
        monkeypatch.setattr(module, "OPEN_SECONDS", 60.0)  # however busy the machine is, the other has time to answer

    hanging, other = FakeEngine("best"), FakeEngine("other")
    hanging.hangs = True
    router, fleet = await started(hanging, other, on_error=failed)
    async with router.place(AUTO, session_id="sess_1") as placement:
        assert placement.choice.model == "other"
    assert codes == ["open_timeout"]
    assert ("0", True) in fleet.looked_at


async def test_and_so_do_many_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_SECONDS", 0.05)
    engines = [FakeEngine(f"m{number}") for number in range(5)]
    for engine in engines:
        engine.hangs = True
    router, _ = await started(*engines)
    with pytest.raises(EngineBusyError, match="in time"):
        await asyncio.wait_for(router.place(AUTO, session_id="sess_1").__aenter__(), 60)


async def test_an_unknown_model_is_named_with_those_that_there_are() -> None:
    router, _ = await started(FakeEngine("best"))
    with pytest.raises(PeerError, match="auto, best") as raised:
        async with router.place(SessionNeeds(model="nonesuch"), session_id="sess_1"):
            pass
    assert raised.value.code == "model_not_found"


async def test_a_slot_is_released_however_the_conversation_ends() -> None:
    engine = FakeEngine("m")
    router, _ = await started(engine)
    with pytest.raises(RuntimeError):
        async with router.place(AUTO, session_id="sess_1"):
            raise RuntimeError
    assert engine.open_now == 0


async def test_an_engine_that_does_not_let_go_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.02)
    codes: list[str] = []
    engine = FakeEngine("m")
    router, fleet = await started(engine, on_error=codes.append)
    async with asyncio.timeout(60), router.place(AUTO, session_id="sess_1"):
        engine.sessions[0].close_hangs = True
    assert codes == ["release"]
    assert fleet.looked_at == [("0", False)]


async def test_a_conversation_that_is_cancelled_while_it_ends_counts() -> None:
    engine = FakeEngine("m")
    router, fleet = await started(engine)

    async def talk() -> None:
        async with router.place(AUTO, session_id="sess_1"):
            engine.sessions[0].close_hangs = True

    talking = asyncio.create_task(talk())
    while not (engine.sessions and engine.sessions[0].closed):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    assert router.timings()["m"].sessions == 1
    assert fleet.looked_at == [("0", False)]


async def test_what_the_engine_does_in_the_conversation_counts() -> None:
    engine = FakeEngine("m")
    router, fleet = await started(engine)
    latency = TurnLatency(total=300_000_000, parts=())
    async with router.place(AUTO, session_id="sess_1") as placement:
        router.turn(placement, latency)
        engine.sessions[0].queue.put_nowait(EngineLost(message="gone"))
        assert isinstance(await anext(placement.engine.events()), EngineLost)
    stats = router.timings()["m"]
    assert (stats.turns, stats.gap_p50, stats.sessions, stats.errors) == (1, 300.0, 1, 1.0)
    assert fleet.looked_at == [("0", True)]


async def test_a_worker_that_came_is_ranked_at_once() -> None:
    router, fleet = await started(FakeEngine("best"))
    assert [ranked.key for ranked in router.ranking()] == ["best"]
    fleet.found["new"] = fleet.found["0"].__class__(id="new", address="new", key="mine", state="starting")
    assert [(ranked.key, ranked.rank) for ranked in router.ranking()] == [("best", 1), ("mine", 2)]


async def test_it_is_ready_while_a_worker_is() -> None:
    router, fleet = await started(FakeEngine("m"))
    states: tuple[WorkerState, ...] = ("ready", "overloaded", "starting", "lost", "failed")
    seen = []
    for state in states:
        fleet.put("0", state)
        seen.append((router.ready, router.models()))
    assert seen == [(True, ("m",)), (True, ("m",)), (False, ()), (False, ()), (False, ())]


async def test_metadata_are_no_longer_than_openai_s() -> None:
    engines = [FakeEngine(f"m{number}") for number in range(6)]
    for engine in engines[:5]:
        engine.refusal = EngineError("x" * 120)
    router, _ = await started(*engines)
    async with router.place(AUTO, session_id="sess_1") as placement:
        assert len(placement.choice.reasons) > 5
        reasons = placement.metadata["muse.reasons"]
        assert len(reasons) <= 512
        assert json.loads(reasons)[0]["code"] == "fallback"


async def test_a_shadow_has_a_slot_of_its_own() -> None:
    best, candidate = FakeEngine("best"), FakeEngine("new")
    router, _ = await started(best, candidate)
    router.rollout = Rollout(stage="shadow", incumbent="best", candidate="new")
    for number in range(200):
        async with router.place(AUTO, session_id=f"sess_{number}") as placement:
            assert placement.choice.model == "best"
            if placement.choice.shadow is None:
                continue
            async with router.shadow(placement, session_id="silent") as silent:
                assert (best.open_now, candidate.open_now) == (1, 1)
                router.turn(silent, TurnLatency(total=10**9, parts=()))
            assert (best.open_now, candidate.open_now) == (1, 0)
            break
    else:
        pytest.fail("no call had a shadow")
    assert router.timings()["new"].gap_p50 == 1000.0
    assert ("candidate", "new") not in router.decisions


async def test_only_what_chance_gave_to_a_model_decides_about_it() -> None:
    engine = FakeEngine("m", duplex=True)
    router, _ = await started(engine)
    counted = {}
    for role in ("incumbent", "requested"):
        router.rollout = Rollout(incumbent="m")
        needs = AUTO if role == "incumbent" else SessionNeeds(model="m")
        async with router.place(needs, session_id="sess_1") as placement:
            assert placement.choice.role == role
            router.turn(placement, TurnLatency(total=10**9, parts=()))
            placement.engine._on_frames(10, 1)
        every, tried = router.timings()["m"], router.trials()["m"]
        counted[role] = [(stats.turns, stats.frames, stats.sessions) for stats in (every, tried)]
    assert counted == {"incumbent": [(1, 10, 1), (1, 10, 1)], "requested": [(2, 20, 2), (1, 10, 1)]}
    engine.refusal = EngineError("broken")
    with pytest.raises(EngineError):
        async with router.place(SessionNeeds(model="m"), session_id="sess_1"):
            pass
    assert (router.timings()["m"].sessions, router.trials()["m"].sessions) == (3, 1)


async def test_what_a_version_did_can_be_forgotten_where_it_is_tried_anew() -> None:
    router, _ = await started(FakeEngine("m"))
    router.rollout = Rollout(incumbent="m")
    async with router.place(AUTO, session_id="sess_1"):
        pass
    router.forget("m")
    assert router.trials() == {}
    assert router.timings()["m"].sessions == 1


async def test_a_worker_that_is_away_for_a_moment_has_failed_once() -> None:
    gone = FakeEngine("m")
    gone.refusal = EngineError("it cannot be reached")
    router, fleet = await started(gone)

    async def call() -> int:
        with contextlib.suppress(EngineError):
            async with router.place(AUTO, session_id="sess_1"):
                pass
        return router.timings()["m"].sessions

    assert [await call() for _ in range(50)] == [1] * 50
    fleet.put("0", "ready")  # it has been looked at again
    assert [await call() for _ in range(50)] == [2] * 50
    gone.refusal = None
    assert await call() == 3
    gone.refusal = EngineError("it cannot be reached")
    assert [await call() for _ in range(2)] == [4, 4]
    assert router.timings()["m"].errors == 0.75


async def test_a_worker_that_has_another_model_now_says_nothing_of_the_one_before() -> None:
    codes: list[str] = []
    best, other = FakeEngine("best"), FakeEngine("other")
    router, _ = await started(best, other, on_error=codes.append)
    best.info = FakeEngine("something else").info
    async with router.place(AUTO, session_id="sess_1"):
        pass
    assert "best" not in router.timings()
    assert codes == [EngineChangedError("").code]


async def test_a_conversation_without_an_answered_turn_was_silent() -> None:
    router, _ = await started(FakeEngine("m"))
    for answered in (True, False, False):
        async with router.place(AUTO, session_id="sess_1") as placement:
            if answered:
                router.turn(placement, TurnLatency(total=10**9, parts=()))
    assert router.timings()["m"].silent == pytest.approx(2 / 3)


@pytest.mark.parametrize(("stage", "silent"), [("shadow", 1.0), ("canary", 0.0)])
async def test_a_shadow_that_is_cut_short_was_not_silent(stage: Stage, silent: float) -> None:
    router = router_for(FakeEngine("best"), FakeEngine("new"), rules=Rules(shadow_share=1.0))
    await router.start()
    router.inform(listed("best", "new"), Scoreboard())
    router.rollout = Rollout(stage="shadow", incumbent="best", candidate="new")
    async with router.place(AUTO, session_id="sess_1") as placement, router.shadow(placement, session_id="silent"):
        router.rollout = replace(router.rollout, stage=stage)
    assert router.trials()["new"].silent == silent
