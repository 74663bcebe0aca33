"""The real session over the real server and a real socket, with the echo engine; only the detectors are doubles."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from models.catalogue import Detectors
from models.echo import EchoEngine
from models.level import LevelDetector, PauseEndsTurn
from routing.policy.contract import Rollout, Rules
from routing.router import Router
from server.gateway import Gateway
from server.metrics import Metrics
from server.sessions import Sessions, session_config, session_options
from server.settings import Settings
from streaming.engine import EngineInfo
from tests.routing.fakes import router_for
from tests.server.conftest import Running, Serve
from tests.waiting import PATIENCE
from tests.waiting import until as until_it_holds

RATE = 24_000
CHUNK = RATE // 50


def echo_gateway(
    *, router: Router | None = None, clock: Callable[[], int] = time.monotonic_ns, **settings: Any
) -> Gateway:
    chosen = Settings.model_validate(settings)
    return Gateway(
        router=router or router_for(EchoEngine(clock=clock, max_sessions=8)),
        detectors=Detectors(voice=LevelDetector(), turns=PauseEndsTurn()),
        new_session=Sessions(config=session_config(chosen), options=session_options(chosen)),
        metrics=Metrics(),
        max_sessions=8,
        clock=clock,
    )


def connect(server: Running) -> Any:
    client = AsyncOpenAI(base_url=f"{server.http}/v1", api_key="x")
    return client.realtime.connect(model="gpt-realtime")


def tone(seconds: float) -> bytes:
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(int(seconds * RATE)) / RATE)
    return (wave * 32767).astype("<i2").tobytes()


def base64_of(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


async def until(connection: AsyncRealtimeConnection, kind: str) -> list[Any]:
    """The events up to the first of `kind`."""
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
            assert events[-1].type != "error", events[-1]
    return events


async def speak(connection: AsyncRealtimeConnection, pcm: bytes) -> None:
    """In real time, 20 ms at once."""
    began = time.monotonic()
    for number, at in enumerate(range(0, len(pcm), 2 * CHUNK)):
        await connection.input_audio_buffer.append(audio=base64_of(pcm[at : at + 2 * CHUNK]))
        await asyncio.sleep(max(0.0, began + (number + 1) * 0.02 - time.monotonic()))


async def manual(connection: AsyncRealtimeConnection) -> None:
    await until(connection, "session.created")
    await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    await until(connection, "session.updated")


def audio_of(events: list[Any]) -> bytes:
    return b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")


async def test_a_spoken_turn_is_answered_with_its_echo(serve: Serve) -> None:
    async with serve(echo_gateway()) as server, connect(server) as connection:
        created = (await until(connection, "session.created"))[-1]
        assert created.session.model == "muse-echo"
        speaking = asyncio.create_task(speak(connection, tone(0.8) + bytes(2 * RATE * 2)))
        events = await until(connection, "response.done")
        await speaking
        kinds = [event.type for event in events]
        order = [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "response.created",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.done",
        ]
        assert [kind for kind in dict.fromkeys(kinds) if kind in order] == order
        done = events[-1].response
        assert done.status == "completed"
        latency = json.loads(done.metadata["muse.latency"])
        total = latency.pop("total_ms")
        assert sum(latency.values()) == pytest.approx(total, abs=0.5)
        assert server.count("muse_turn_latency_seconds_count") == 1
        assert server.count("muse_turn_latency_seconds_sum") * 1000 == pytest.approx(total, abs=0.1)


class Namesake(EchoEngine):
    """The echo engine under another name."""

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, model="new")


class SpokenTime:
    """Goes on with what is said, not with the clock: what is measured by it is the same on any machine."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    async def speak(self, connection: AsyncRealtimeConnection, pcm: bytes) -> None:
        """And be silent until cancelled. The server hears each 20 ms before the next are said."""
        for at in itertools.count(0, 2 * CHUNK):
            await connection.input_audio_buffer.append(
                audio=base64_of(pcm[at : at + 2 * CHUNK].ljust(2 * CHUNK, b"\0"))
            )
            await asyncio.sleep(0.02)
            self.now += 20_000_000


async def test_a_shadow_is_measured_as_the_call_is(serve: Serve) -> None:
    clock = SpokenTime()
    engines = [kind(clock=clock, max_sessions=8) for kind in (EchoEngine, Namesake)]
    router = router_for(*engines, rules=Rules(shadow_share=1.0, min_samples=0), clock=clock)
    async with serve(echo_gateway(router=router, clock=clock)) as server:
        router.rollout = Rollout(stage="shadow", incumbent="muse-echo", candidate="new")
        async with connect(server) as connection:
            await until(connection, "session.created")
            speaking = asyncio.create_task(clock.speak(connection, tone(0.8)))
            await until(connection, "response.done")
            await until_it_holds(lambda: all(router.timings()[model].turns for model in ("muse-echo", "new")))
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        heard, silent = (router.timings()[model] for model in ("muse-echo", "new"))
        assert (heard.turns, silent.turns) == (1, 1)
        assert heard.gap_p50 is not None
        assert silent.gap_p50 == pytest.approx(heard.gap_p50, abs=100)
        assert server.count("muse_turn_latency_seconds_count") == 1


async def test_the_session_tells_once_why_it_has_its_model(serve: Serve) -> None:
    async with serve(echo_gateway()) as server, connect(server) as connection:
        created = (await until(connection, "session.created"))[-1].session
        metadata = created.metadata
        assert (metadata["muse.model"], metadata["muse.role"]) == ("muse-echo", "fallback")
        assert json.loads(metadata["muse.reasons"])[0]["code"] == "fallback"
        sent_back = created.model_dump(exclude_none=True) | {"instructions": "Be brief."}
        await connection.send(cast(Any, {"type": "session.update", "session": sent_back}))
        updated = (await until(connection, "session.updated"))[-1].session
        assert (updated.instructions, updated.metadata) == ("Be brief.", None)


async def test_a_committed_turn_comes_back_sample_by_sample(serve: Serve) -> None:
    pcm = tone(1.0)
    async with serve(echo_gateway()) as server, connect(server) as connection:
        await manual(connection)
        await connection.input_audio_buffer.append(audio=base64_of(pcm))
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        reply = np.frombuffer(audio_of(await until(connection, "response.done")), "<i2")
        said = np.frombuffer(pcm, "<i2")
        assert len(reply) == pytest.approx(len(said), abs=RATE // 50)
        middle = slice(RATE // 10, RATE // 2)
        assert np.corrcoef(reply[middle], said[middle])[0, 1] > 0.9


async def test_the_reply_is_sent_at_most_the_lead_ahead_of_real_time(serve: Serve) -> None:
    async with serve(echo_gateway(lead_ms=200)) as server, connect(server) as connection:
        await manual(connection)
        await connection.input_audio_buffer.append(audio=base64_of(tone(1.2)))
        await connection.input_audio_buffer.commit()
        began, sent = time.monotonic(), 0.0  # the echo begins at once, and not before it is asked for
        await connection.response.create()
        async with asyncio.timeout(PATIENCE):
            async for event in connection:
                if event.type == "response.output_audio.delta":
                    sent += len(base64.b64decode(event.delta)) / (2 * RATE)
                    assert sent <= time.monotonic() - began + 0.2 + 0.04 + 0.02
                if event.type == "response.done":
                    break
        assert sent > 1.0


async def test_a_bad_event_names_itself_and_the_session_goes_on(serve: Serve) -> None:
    async with serve(echo_gateway()) as server, connect(server) as connection:
        await manual(connection)
        await connection.input_audio_buffer.commit(event_id="mine")
        error = (await connection.recv()).error
        assert (error.code, error.event_id) == ("input_audio_buffer_commit_empty", "mine")
        await connection.input_audio_buffer.append(audio=base64_of(tone(0.5)))
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        assert (await until(connection, "response.done"))[-1].response.status == "completed"


async def test_audio_faster_than_real_time_is_bounded(serve: Serve) -> None:
    async with serve(echo_gateway(max_ahead_seconds=2)) as server, connect(server) as connection:
        await until(connection, "session.created")
        for _ in range(5):
            await connection.input_audio_buffer.append(audio=base64_of(bytes(2 * RATE)))
        async with asyncio.timeout(PATIENCE):
            while (event := await connection.recv()).type != "error":
                pass
        assert event.error.type == "invalid_request_error"


async def test_the_models_are_those_that_the_sdk_lists(serve: Serve) -> None:
    async with serve(echo_gateway()) as server:
        client = AsyncOpenAI(base_url=f"{server.http}/v1", api_key="x")
        assert [model.id async for model in client.models.list()] == ["auto", "muse-echo"]
        assert (await client.models.retrieve("muse-echo")).id == "muse-echo"
        await client.close()
