"""What must hold in any conversation, whatever the client, the user and the engine do."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.audio import NS
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    ClearOutputAudio,
    ClientEvent,
    CommitAudio,
    CreateItem,
    CreateResponse,
    DeleteItem,
    ResponseParams,
    TruncateItem,
    UpdateSession,
)
from streaming.core import SessionOptions
from streaming.engine import EngineLost, ReplyFailed, StartReply
from streaming.items import InputText, Message
from streaming.server_events import (
    AudioDelta,
    BargeInProgress,
    ErrorEvent,
    ItemTruncated,
    ResponseCreated,
    ResponseDone,
)
from streaming.session import Session
from streaming.trace import Recorder, TraceError, replay
from tests.streaming.simulation import PCM, Script, Simulation, reply_level

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

EVENTS: dict[str, ClientEvent] = {
    "commit": CommitAudio(),
    "clear": ClearAudio(),
    "create": CreateResponse(),
    "beside": CreateResponse(response=ResponseParams(conversation="none", output_modalities=("text",))),
    "taken": CreateItem(item=Message(role="user", content=(InputText(text="hello"),), id="item_t_5")),
    "update": UpdateSession(session={"instructions": "Be brief."}),
    "cancel": CancelResponse(),
    "flush": ClearOutputAudio(),
    "item": CreateItem(item=Message(role="user", content=(InputText(text="hello"),))),
}

WORDS = ["", "Mm-hmm.", "Stop.", "what time is it"]

ms = st.sampled_from([20, 60, 100, 200, 400, 700, 1500])
steps = st.one_of(
    st.tuples(st.just("speak"), ms),
    st.tuples(st.just("silence"), ms),
    st.tuples(st.just("wait"), ms),
    st.tuples(st.just("words"), st.sampled_from(WORDS)),
    st.tuples(st.just("turn_end"), st.sampled_from([0.01, 0.4, 0.7, 0.99])),
    st.tuples(st.just("send"), st.sampled_from(sorted(EVENTS))),
    st.tuples(st.just("truncate"), st.integers(0, 3000)),
    st.tuples(st.just("delete"), st.integers(0, 3)),
    st.tuples(st.just("detection"), st.sampled_from(["server_vad", "semantic_vad", None])),
    st.tuples(st.just("interrupts"), st.booleans()),
    st.tuples(st.just("notify"), st.just(None)),
    st.tuples(st.just("garbage"), st.binary(max_size=5)),
    st.tuples(st.just("fail"), st.just(None)),
)
plans = st.lists(steps, max_size=25)
scripts = st.builds(
    Script,
    seconds=st.sampled_from([0.25, 1.0, 4.0]),
    transcribe_ms=st.sampled_from([0, 120, 900]),
    first_audio_ms=st.sampled_from([0, 100, 700]),
)


def run(sim: Simulation, plan: list[tuple[str, Any]]) -> None:
    for step, value in plan:
        match step:
            case "speak" | "silence" | "wait":
                getattr(sim, step)(value)
            case "words":
                sim.script.words = value
            case "turn_end":
                sim.script.turn_end = value
            case "send":
                sim.send(EVENTS[value])
            case "truncate":
                spoken = sim.of(AudioDelta)
                item_id = spoken[-1].item_id if spoken else "none"
                sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=value))
            case "delete":
                items = [o.item_id for o in sim.of(AudioDelta)]
                sim.send(DeleteItem(item_id=items[value] if value < len(items) else "none"))
            case "detection":
                setting = None if value is None else {"type": value}
                sim.send(UpdateSession(session={"audio": {"input": {"turn_detection": setting}}}))
            case "interrupts":
                setting = {"type": "semantic_vad", "interrupt_response": value}
                sim.send(UpdateSession(session={"audio": {"input": {"turn_detection": setting}}}))
            case "notify":
                sim.notify("session_expiring", "soon")
            case "garbage":
                sim.send(AppendAudio(audio=value))
            case "fail":
                started = sim.of(StartReply)
                response_id = started[-1].response_id if started else "none"
                sim.inject(ReplyFailed(response_id=response_id, code="x", message="it broke"))
    sim.silence(6000)
    sim.send(CancelResponse())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, scripts, st.booleans())
def test_any_conversation_keeps_its_promises(plan: list[tuple[str, Any]], script: Script, extensions: bool) -> None:
    lines: list[str] = []

    def record(**made_from: Any) -> Any:
        return Recorder(lines.append, **made_from)

    sim = Simulation(script=script, options=SessionOptions(extensions=extensions), make=record)
    run(sim, plan)
    check_terminal_events(sim)
    check_one_at_a_time(sim)
    check_audio(sim)
    assert replay(lines).outputs == len(sim.outputs)


def check_terminal_events(sim: Simulation) -> None:
    created = [event.response.id for event in sim.of(ResponseCreated)]
    done = [event.response.id for event in sim.of(ResponseDone)]
    assert Counter(created) == Counter(done)
    assert set(Counter(done).values()) <= {1}
    open_response: set[str] = set()
    for _, output in sim.outputs:
        if isinstance(output, ResponseCreated):
            open_response.add(output.response.id)
        elif isinstance(output, ResponseDone):
            open_response.remove(output.response.id)
        elif (response_id := getattr(output, "response_id", None)) and isinstance(output, AudioDelta):
            assert response_id in open_response


def check_one_at_a_time(sim: Simulation) -> None:
    """The conversation has one reply at a time; each overlap that begins ends."""
    beside = {o.response.id for o in sim.of(ResponseCreated) if o.response.output_modalities == ("text",)}
    running = 0
    for _, output in sim.outputs:
        if isinstance(output, ResponseCreated | ResponseDone) and output.response.id not in beside:
            running += 1 if isinstance(output, ResponseCreated) else -1
            assert running in (0, 1)
    phases = [progress.phase for progress in sim.of(BargeInProgress)]
    assert all(phase == "onset" for phase in phases[::2])
    assert all(phase != "onset" for phase in phases[1::2])
    assert len(phases) % 2 == 0


def check_audio(sim: Simulation) -> None:
    """Every sample belongs to the reply whose id it carries, is sent in order, and no faster than the lead allows."""
    for response_id in {delta.response_id for delta in sim.of(AudioDelta)}:
        sent = [(at, d) for at, d in sim.outputs if isinstance(d, AudioDelta) and d.response_id == response_id]
        samples = np.concatenate([PCM.decode(delta.delta) for _, delta in sent])
        level = reply_level(response_id)
        assert float(samples.max()) <= level + 1e-3
        assert float(samples.min()) >= level * 0.2 - 1e-3
        first = sent[0][0]
        before = 0
        for at, delta in sent:
            assert before / 48_000 - (at - first) / NS <= 0.4 + 1e-6
            before += len(delta.delta)
        total_ms = before // 48
        cuts = [cut.audio_end_ms for cut in sim.of(ItemTruncated) if cut.item_id == sent[0][1].item_id]
        assert all(cut <= total_ms for cut in cuts)


def test_a_trace_that_was_changed_does_not_replay() -> None:
    lines: list[str] = []
    sim = Simulation(make=lambda **made_from: Recorder(lines.append, **made_from))  # type: ignore[arg-type]
    run(sim, [("speak", 700), ("silence", 700)])
    assert replay(lines).inputs > 100
    index = next(i for i, line in enumerate(lines) if '"response.created"' in line)
    changed = lines.copy()
    changed[index] = changed[index].replace("resp_t_1", "resp_t_9")
    with pytest.raises(TraceError, match=f"line {index + 1}: recorded"):
        replay(changed)
    with pytest.raises(TraceError, match="replayed"):
        replay(lines[:index] + lines[index + 1 :])


@pytest.mark.parametrize("header", ["", "{}", '{"muse_trace": 1}', json.dumps({"muse_trace": 99})])
def test_a_file_that_is_no_trace_is_refused(header: str) -> None:
    with pytest.raises(TraceError, match="line 1"):
        replay([header])


def test_sessions_do_not_share_anything() -> None:
    """Two conversations, interleaved, give what each gives alone."""
    plan: list[tuple[str, Any]] = [("speak", 700), ("silence", 1500), ("words", "Stop."), ("speak", 400)]
    alone = Simulation()
    run(alone, plan)
    one, other = Simulation(), Simulation()
    for step in plan:
        for sim in (one, other):
            getattr(sim, step[0])(step[1]) if step[0] in ("speak", "silence") else setattr(sim.script, *step)
    for sim in (one, other):
        run(sim, [])
        assert sim.types() == alone.types()


def test_a_lost_engine_ends_every_response_once() -> None:
    sim = Simulation(script=Script(seconds=4.0))
    sim.speak(700)
    sim.silence(700)
    sim.inject(EngineLost(message="gone"))
    check_terminal_events(sim)
    assert [e.error.code for e in sim.of(ErrorEvent)] == ["engine_lost"]
    assert isinstance(sim.session, Session)
    assert sim.session.next_timeout() is None
