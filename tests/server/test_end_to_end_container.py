"""The real session over the real server, with a miner's container behind it: HTTP on both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from models.container.client import ContainerOptions
from models.container.engine import ContainerEngine
from server.engines import engine_builder, load_detectors
from server.gateway import Gateway
from server.metrics import Metrics
from server.sessions import Sessions, session_config, session_options
from server.settings import Settings
from tests.models.container.fake_container import FakeContainer, body, http, saying
from tests.routing.fakes import router_for
from tests.server.conftest import Running, Serve
from tests.server.test_end_to_end import RATE, audio_of, base64_of, connect, manual, speak, tone, until
from tests.waiting import PATIENCE


@asynccontextmanager
async def served(
    serve: Serve, container: FakeContainer, options: ContainerOptions | None = None
) -> AsyncIterator[Running]:
    """A server with this container as its engine, by its settings unless there are `options`."""
    async with container.serve() as url:
        settings = Settings.model_validate({"engine": url, "detectors": "loudness"})
        engine = engine_builder(settings)(url)
        if options is not None:
            engine = ContainerEngine(url, clock=time.monotonic_ns, max_sessions=8, options=options)
        gateway = Gateway(
            router=router_for(engine),
            detectors=load_detectors(settings),
            new_session=Sessions(config=session_config(settings), options=session_options(settings)),
            metrics=Metrics(),
            max_sessions=8,
        )
        async with serve(gateway) as running:
            yield running


async def say(connection: Any, pcm: bytes) -> None:
    """Say it, and ask for the answer."""
    await connection.input_audio_buffer.append(audio=base64_of(pcm))
    await connection.input_audio_buffer.commit()
    await connection.response.create()


async def test_a_spoken_turn_is_answered_by_the_container(serve: Serve) -> None:
    container = FakeContainer()
    async with served(serve, container) as server, connect(server) as connection:
        created = (await until(connection, "session.created"))[-1]
        assert created.session.model == "muse-container"
        said = tone(0.8)
        speaking = asyncio.create_task(speak(connection, said + bytes(2 * RATE * 2)))
        events = await until(connection, "response.done")
        await speaking
        done = events[-1].response
        assert done.status == "completed"
        request = container.asked("v2v")[-1]
        assert done.output[0].content[0].transcript == f"You said {request.audio.size} samples."
        reply = np.frombuffer(audio_of(events), "<i2")
        assert len(reply) / RATE == pytest.approx(request.audio.size / 16_000, abs=0.05)
        assert 0.10 < np.abs(reply[RATE // 5 : RATE // 2] / 32768).max() < 0.20  # a tone of 0.3, at half its strength
        assert not [event.type for event in events if "transcription" in event.type]
        assert server.count("muse_turn_latency_seconds_count") == 1


async def test_turns_follow_each_other_and_each_is_answered_for_itself(serve: Serve) -> None:
    container = FakeContainer()
    async with served(serve, container) as server, connect(server) as connection:
        await manual(connection)
        for seconds in (0.3, 0.5):
            await say(connection, tone(seconds))
            events = await until(connection, "response.done")
            assert len(audio_of(events)) / (2 * RATE) == pytest.approx(seconds, abs=0.05)
    # Less, or more, what the resampler holds back.
    assert [request.audio.size for request in container.asked("v2v")] == pytest.approx([4800, 8000], abs=400)


async def test_a_written_answer_is_asked_for_in_words(serve: Serve) -> None:
    container = FakeContainer()
    async with served(serve, container) as server, connect(server) as connection:
        await manual(connection)
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await until(connection, "session.updated")
        await say(connection, tone(0.3))
        done = (await until(connection, "response.done"))[-1].response
        assert done.output[0].content[0].text == f"You said {container.asked('v2t')[0].audio.size} samples."
    assert container.asked("v2v") == []


async def test_a_typed_turn_is_refused_by_name_and_a_spoken_one_then_answered(serve: Serve) -> None:
    async with served(serve, FakeContainer()) as server, connect(server) as connection:
        await manual(connection)
        typed: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
        await connection.conversation.item.create(item=typed)
        await connection.response.create()
        done = (await until(connection, "response.done"))[-1].response
        assert done.status == "failed"
        assert done.status_details.error.code == "speech_needed"
        await say(connection, tone(0.3))
        assert (await until(connection, "response.done"))[-1].response.status == "completed"


async def test_a_container_that_breaks_fails_the_response_and_then_refuses_new_calls(serve: Serve) -> None:
    container = FakeContainer()
    async with (
        served(serve, container, ContainerOptions(failures=2, cooldown=0)) as server,
        connect(server) as connection,
    ):
        await manual(connection)
        container.answers = {"v2v": saying(http(body(b"secret"))), "health": saying(http(status=503))}
        for _ in range(2):
            await say(connection, tone(0.3))
            done = (await until(connection, "response.done"))[-1].response
            assert done.status == "failed"
            assert done.status_details.error.code == "container_failed"
            assert "secret" not in done.model_dump_json()
        with pytest.raises(Exception, match="503"):
            await connect(server).enter()
        container.answers.clear()
        async with connect(server) as other:
            await until(other, "session.created")
        await say(connection, tone(0.3))
        assert (await until(connection, "response.done"))[-1].response.status == "completed"


async def test_cancelling_hangs_up_on_the_container(serve: Serve) -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with served(serve, container) as server, connect(server) as connection:
        await manual(connection)
        await say(connection, tone(0.3))
        request = await container.until_asked("v2v")
        await connection.response.cancel()
        assert (await until(connection, "response.done"))[-1].response.status == "cancelled"
        async with asyncio.timeout(PATIENCE):
            await request.left.wait()


async def test_a_client_that_leaves_hangs_up_on_the_container(serve: Serve) -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with served(serve, container) as server:
        async with connect(server) as connection:
            await manual(connection)
            await say(connection, tone(0.3))
            request = await container.until_asked("v2v")
        async with asyncio.timeout(PATIENCE):
            await request.left.wait()
