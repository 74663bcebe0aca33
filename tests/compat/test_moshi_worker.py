"""The whole way to a Moshi model: a worker in its own environment, the gateway before it, and clients of either.

The checkpoint is tiny and its weights are random: it says noise, without end. Everything else is what a real one has.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import websockets
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from benchmarks.server_process import ROOT, RunningServer, running_server
from benchmarks.worker_process import RunningWorker, running_worker
from clients.errors import RefusedError
from clients.moshi import MoshiClient
from streaming.engine import Samples
from streaming.wire.moshi import Frame, Text
from streaming.wire.moshi_query import ChatQuery
from tests.prerequisites import WORKER_PYTHON

pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]

RATE = 24_000
FRAME = RATE // 25  # 40 ms
SLOWLY = 3
"""How often real time goes into what speaking takes: so that the model keeps up where the machine is busy."""

PATIENCE = 120.0
"""Seconds that only a hang takes."""

server_event: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    command = [str(WORKER_PYTHON), "-m", "models", "tiny", str(directory), "--personaplex"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


def moshi_worker(checkpoint: Path) -> AbstractContextManager[RunningWorker]:
    # A machine that is busy with other tests is late; what is tested here is not how late.
    options = ("--model", str(checkpoint), "--slots", "3", "--device", "cpu", "--late-ms", "1000000")
    return running_worker("--engine", "moshi", *options, python=str(WORKER_PYTHON))


def gateway_to(worker: RunningWorker) -> AbstractContextManager[RunningServer]:
    # Nor how long it may be silent: what a test sees of a lost worker it sees by the connection.
    return running_server(worker.url, {"MUSE_DETECTORS": "loudness", "MUSE_ENGINE_PATIENCE": "100000"})


@pytest.fixture(scope="module")
def worker(checkpoint: Path) -> Iterator[RunningWorker]:
    with moshi_worker(checkpoint) as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway_process(worker: RunningWorker) -> Iterator[RunningServer]:
    with gateway_to(worker) as server:
        yield server


@pytest.fixture
def gateway(gateway_process: RunningServer) -> RunningServer:
    """The gateway when it would take a call: a worker that is slow to answer a look counts as lost until the next."""
    with httpx.Client(timeout=PATIENCE) as http:
        while http.get(f"{gateway_process.url}/v1/leaderboard/explain").status_code != 200:
            time.sleep(0.05)
    return gateway_process


def babble(seconds: float) -> Samples:
    return (0.1 * np.random.default_rng(1).standard_normal(int(seconds * RATE))).astype(np.float32)


@asynccontextmanager
async def speaking(connection: AsyncRealtimeConnection) -> AsyncIterator[None]:
    """Speak slowly inside the context."""

    async def speak() -> None:
        while True:
            audio = (babble(FRAME / RATE) * 32767).astype("<i2").tobytes()
            await connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())
            await asyncio.sleep(SLOWLY * FRAME / RATE)

    task = asyncio.create_task(speak())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def receive(connection: AsyncRealtimeConnection) -> Any:
    raw = await asyncio.wait_for(connection.recv_bytes(), PATIENCE)
    server_event.validate_json(raw)
    return connection.parse_event(raw)


async def until(connection: AsyncRealtimeConnection, kind: str) -> Any:
    while (event := await receive(connection)).type != kind:
        pass
    return event


async def test_the_stock_openai_sdk_hears_the_model_while_it_speaks(gateway: RunningServer) -> None:
    client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any")
    async with client, client.realtime.connect(model="auto") as connection:
        created = await until(connection, "session.created")
        assert created.session.model == "personaplex"
        await connection.session.update(session={"type": "realtime", "instructions": "You are terse."})
        await until(connection, "session.updated")
        heard, words = 0, ""
        async with speaking(connection):
            while heard < 2 * RATE or not words.strip():
                event = await receive(connection)
                assert event.type != "error", event
                if event.type == "response.output_audio.delta":
                    audio = np.frombuffer(base64.b64decode(event.delta), "<i2")
                    heard += len(audio)
                    assert np.abs(audio).max() > 0
                elif event.type == "response.output_audio_transcript.delta":
                    words += event.delta


async def test_instructions_are_settled_once_the_model_listens(gateway: RunningServer) -> None:
    client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any")
    async with client, client.realtime.connect(model="auto") as connection:
        async with speaking(connection):
            await until(connection, "response.output_audio.delta")
        await connection.session.update(session={"type": "realtime", "instructions": "You are somebody else."})
        refused = (await until(connection, "error")).error
        assert refused.param == "session.instructions"
        await connection.session.update(session={"type": "realtime", "audio": {"output": {"voice": "nobody"}}})
        assert "nobody" in (await until(connection, "error")).error.message
        await connection.response.create()
        assert (await until(connection, "error")).error.code == "duplex_engine"


@pytest.mark.parametrize("coding", ["opus", "pcm"])
@pytest.mark.parametrize("of", ["gateway", "worker"])
async def test_a_moshi_client_talks_to_the_gateway_and_to_the_worker(
    gateway: RunningServer, worker: RunningWorker, of: str, coding: Any
) -> None:
    base = worker.url if of == "worker" else gateway.url.replace("http", "ws", 1)
    async with MoshiClient.connect(f"{base}/api/chat", query=ChatQuery(audio=coding)) as client:

        async def speak() -> None:
            while True:
                await client.append(babble(FRAME / RATE))
                await asyncio.sleep(SLOWLY * FRAME / RATE)

        talk = asyncio.create_task(speak())
        heard, words = 0, ""
        try:
            async with asyncio.timeout(PATIENCE):
                while heard < 2 * RATE or not words.strip():
                    match await anext(client):
                        case Frame() as frame:
                            heard += len(frame.audio)
                            assert np.isfinite(frame.audio).all()
                        case Text(text=text):
                            words += text
            assert not talk.done()  # it was heard while it spoke
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)


async def test_a_worker_killed_in_mid_call_is_told_at_once_and_the_gateway_lives(checkpoint: Path) -> None:
    """At once: long before the worker would be found too silent."""
    with moshi_worker(checkpoint) as worker, gateway_to(worker) as gateway:
        client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any")
        async with client, client.realtime.connect(model="auto") as connection, speaking(connection):
            await until(connection, "response.output_audio.delta")
            worker.process.kill()
            lost = (await until(connection, "error")).error
            assert lost.code == "engine_lost"
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            assert (await http.get("/healthz")).status_code == 200
        with pytest.raises(websockets.InvalidStatus, match="503"):
            await client.realtime.connect(model="auto").enter()


async def test_one_call_too_many_is_refused_and_a_call_that_ends_makes_room(
    gateway: RunningServer, worker: RunningWorker
) -> None:
    url = f"{gateway.url.replace('http', 'ws', 1)}/api/chat"
    health = worker.url.replace("ws", "http", 1) + "/health"

    async def has_free(http: httpx.AsyncClient, slots: int) -> None:
        """The worker has, and the gateway has seen it."""
        async with asyncio.timeout(PATIENCE):
            while (await http.get(health)).json()["free"] < slots:  # noqa: ASYNC110 another process frees them
                await asyncio.sleep(0.05)
            while (await http.get(f"{gateway.url}/v1/leaderboard/explain")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        await has_free(http, 3)
        async with MoshiClient.connect(url), MoshiClient.connect(url):
            async with MoshiClient.connect(url):
                assert (await http.get(health)).json()["free"] == 0
                with pytest.raises(RefusedError) as refused:
                    await MoshiClient.connect(url).__aenter__()
                assert refused.value.status == 503
            await has_free(http, 1)
            async with MoshiClient.connect(url):
                pass
