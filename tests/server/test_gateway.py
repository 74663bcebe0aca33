from __future__ import annotations

import json
from typing import Any

import pytest

from models.catalogue import Detectors
from routing.policy.contract import SessionNeeds
from server.errors import Refused
from server.gateway import Call, Gateway
from server.metrics import Metrics
from streaming.engine import EngineInfo
from streaming.errors import EngineBusyError, EngineError
from streaming.observations import TurnMeasured
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine, router_for
from tests.server.fakes import FakeConnection, FakeSession, FakeTurns, FakeVoice, fake_gateway

MEASURED = TurnMeasured(response_id="resp_1", latency=TurnLatency(total=250_000_000, parts=()))


async def started(*engines: FakeEngine, **options: Any) -> Gateway:
    gateway = fake_gateway(router=router_for(*engines), **options)
    await gateway.start()
    return gateway


async def test_a_call_knows_who_answers_and_why() -> None:
    gateway = await started(FakeEngine("acme/m@1"))
    async with gateway.admit(SessionNeeds()) as call:
        assert (call.key, call.info.model, call.blind) == ("acme/m@1", "acme/m@1", None)
        assert call.metadata["muse.model"] == "acme/m@1"
        assert json.loads(call.metadata["muse.reasons"])
        assert gateway.active == 1
    assert gateway.active == 0


async def test_a_blind_call_names_no_model_and_no_reason() -> None:
    engine = FakeEngine("acme/m@1")
    gateway = await started(engine)
    async with gateway.admit(SessionNeeds(model="acme/m@1"), blind="A") as call:
        assert (call.key, call.blind) == ("acme/m@1", "A")
        assert "acme" not in repr(call.info)
        assert call.metadata == {}
        assert (call.info.duplex, call.info.input_rate) == (engine.info.duplex, engine.info.input_rate)


async def test_each_call_has_the_session_of_its_own_model() -> None:
    made: list[dict[str, Any]] = []

    def new_session(**given: Any) -> FakeSession:
        made.append(given)
        session = FakeSession(session_id=given["session_id"])
        session.outputs.clear()
        session.outputs.append(MEASURED)
        session.outputs.append(next(iter(FakeSession().outputs)))
        return session

    turns: list[tuple[str, str]] = []

    def on_turn(call: Call, measured: TurnMeasured) -> None:
        turns.append((call.key, measured.response_id))

    router = router_for(FakeEngine("one"), FakeEngine("two", duplex=True))
    gateway = Gateway(
        router=router,
        detectors=Detectors(voice=FakeVoice(), turns=FakeTurns()),
        new_session=new_session,
        metrics=Metrics(),
        max_sessions=8,
        first_event=0.01,
        on_turn=(on_turn,),
    )
    await gateway.start()
    for name in ("one", "two"):
        async with gateway.admit(SessionNeeds(model=name)) as call:
            close = await gateway.converse(call, FakeConnection())
            assert close is not None
    infos: list[EngineInfo] = [given["engine"] for given in made]
    assert [(info.model, info.duplex) for info in infos] == [("one", False), ("two", True)]
    assert [given["metadata"]["muse.role"] for given in made] == ["requested", "requested"]
    assert turns == [("one", "resp_1"), ("two", "resp_1")]
    assert router.timings()["two"].gap_p50 == 250.0
    assert gateway.metrics.registry.get_sample_value("muse_turn_latency_seconds_count") == 2


@pytest.mark.parametrize(
    ("needs", "refusal", "status", "code", "retry"),
    [
        (SessionNeeds(model="nonesuch"), None, 404, "model_not_found", None),
        (SessionNeeds(mode="duplex"), None, 404, "model_not_found", None),
        (SessionNeeds(deny=("m",), model="m"), None, 404, "model_not_served", None),
        (SessionNeeds(), EngineBusyError("full", retry_after=7), 503, "engine_busy", 7),
        (SessionNeeds(), EngineError("gone", code="lost"), 503, "lost", 10),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    needs: SessionNeeds, refusal: EngineError | None, status: int, code: str, retry: float | None
) -> None:
    engine = FakeEngine("m")
    engine.refusal = refusal
    gateway = await started(engine)
    with pytest.raises(Refused) as raised:
        await gateway.admit(needs).__aenter__()
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (status, code, retry)
    assert gateway.active == 0


async def test_nobody_is_let_in_before_the_start_or_in_the_end() -> None:
    gateway = fake_gateway()
    for _ in range(2):
        with pytest.raises(Refused) as raised:
            await gateway.admit(SessionNeeds()).__aenter__()
        assert raised.value.code == "not_ready"
        await gateway.start()
        await gateway.drain(0)


async def test_it_is_ready_while_a_worker_is() -> None:
    gateway = fake_gateway()
    assert not gateway.ready
    await gateway.start()
    ready = gateway.ready
    await gateway.close()
    assert (ready, gateway.ready) == (True, False)
