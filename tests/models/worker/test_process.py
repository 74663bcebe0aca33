"""The worker as a process of its own, and the gateway's link to it when it goes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from benchmarks.server_process import ROOT
from benchmarks.worker_process import running_worker
from models.link.engine import LinkOptions, WorkerEngine
from models.link.session import WorkerSession
from streaming.engine import (
    Begin,
    ChatMessage,
    EngineLost,
    HearAudio,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    StartReply,
)
from streaming.errors import EngineBusyError, EngineError
from streaming.wire.moshi import FRAME_SAMPLES
from tests.models.worker.loopback import FRAME_SECONDS, PATIENCE

BUSY = LinkOptions(patience=PATIENCE / FRAME_SECONDS, open=PATIENCE)
"""Of a machine that may be busy."""

DUPLEX = ("--engine", "echo-duplex", "--slots", "2", "--late-ms", "1000000")
FRAME = HearAudio(audio=np.full(FRAME_SAMPLES, 0.1, np.float32))


class Call:
    """A conversation through the link, with speech that does not end."""

    def __init__(self, session: WorkerSession) -> None:
        self.session = session
        self.frames = 0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._spoke = asyncio.Event()
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._hear())]

    async def _talk(self) -> None:
        self.session.send(Begin(instructions="", voice=""))
        while True:
            self.session.send(FRAME)
            await asyncio.sleep(FRAME_SECONDS)

    async def _hear(self) -> None:
        async for event in self.session.events():
            if isinstance(event, EngineLost):
                self.lost.set_result(event.message)
                return
            self.frames += 1
            self._spoke.set()

    async def hears_more(self, frames: int = 5) -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(frames):
                self._spoke.clear()
                await self._spoke.wait()

    async def ending(self) -> str:
        return await asyncio.wait_for(self.lost, PATIENCE)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()


async def until_open(engine: WorkerEngine) -> WorkerSession:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await engine.open("c")
            except EngineBusyError:
                await asyncio.sleep(0.1)


async def health_of(url: str, until: Callable[[httpx.Response], bool]) -> httpx.Response:
    async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        while not until(health := await client.get(url.replace("ws", "http") + "/health")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return health


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGKILL, "the worker has gone"), (signal.SIGSTOP, "the worker has fallen silent")]
)
async def test_a_worker_that_goes_in_mid_call_is_told(number: signal.Signals, message: str) -> None:
    options = LinkOptions(patience=50, open=5, probe=0.2)
    with running_worker(*DUPLEX) as worker:
        engine = WorkerEngine(worker.url, clock=time.monotonic_ns, options=options)
        await engine.start()
        calls = [Call(await engine.open("a")), Call(await engine.open("b"))]
        try:
            await asyncio.gather(*(call.hears_more() for call in calls))
            os.kill(worker.process.pid, number)
            assert [await call.ending() for call in calls] == [message] * 2
            with pytest.raises(EngineError):
                await engine.open("c")
            if number == signal.SIGSTOP:
                await asyncio.sleep(0.3)
                with pytest.raises(EngineBusyError):  # it listens, and says nothing
                    await engine.open("c")
                os.kill(worker.process.pid, signal.SIGCONT)
                calls.append(Call(await until_open(engine)))
                await calls[-1].hears_more()
        finally:
            if worker.process.poll() is None:
                os.kill(worker.process.pid, signal.SIGCONT)
            await asyncio.gather(*(call.close() for call in calls))
            await engine.close()


async def test_at_sigterm_it_lets_its_talkers_go_on_for_a_while_and_goes() -> None:
    with running_worker(*DUPLEX, "--drain-seconds", "5") as worker:
        engine = WorkerEngine(worker.url, clock=time.monotonic_ns, options=BUSY)
        await engine.start()
        call = Call(await engine.open("a"))
        try:
            await call.hears_more()
            told = time.monotonic()
            worker.process.terminate()
            await health_of(worker.url, lambda health: health.json()["status"] == "draining")
            with pytest.raises(EngineBusyError, match="draining"):
                await engine.open("b")
            await call.hears_more()
            assert await call.ending() == "the worker is stopping"
            assert time.monotonic() - told >= 5
            assert await asyncio.to_thread(worker.process.wait, PATIENCE) == 0
        finally:
            await call.close()
            await engine.close()


@pytest.mark.models
@pytest.mark.timeout(600)
async def test_the_embedded_engine_answers_through_a_worker() -> None:
    with running_worker("--engine", "embedded", "--slots", "2") as worker:
        engine = WorkerEngine(worker.url, clock=time.monotonic_ns, options=BUSY)
        await engine.start()
        session = await engine.open("a")
        try:
            message = ChatMessage(role="user", text="Say hello to me.")
            session.send(
                StartReply(response_id="r", instructions="Be brief.", messages=(message,), speaks=True, voice="joe")
            )
            words, samples = "", 0
            async with asyncio.timeout(300):
                async for event in session.events():
                    assert not isinstance(event, ReplyFailed | EngineLost), event
                    words += event.text if isinstance(event, ReplyText) else ""
                    samples += len(event.audio) if isinstance(event, ReplyAudio) else 0
                    if isinstance(event, ReplyEnded):
                        break
            assert words.strip()
            assert samples > engine.info.output_rate // 4
        finally:
            await session.close()
            await engine.close()


def test_an_idle_worker_goes_at_once() -> None:
    with running_worker("--engine", "echo", "--slots", "1", "--drain-seconds", "3600") as worker:
        worker.process.terminate()
        assert worker.process.wait(PATIENCE) == 0


_MODEL = """
import sys, time
from models.worker import process
from models.worker.duplex import DuplexHost
from models.worker.echo import EchoBatch
from models.worker.settings import WorkerSettings

class Model(EchoBatch):
    def load(self):
        {load}

    def step(self, frames):
        {step}

def build_host(settings, *, clock, metrics):
    return DuplexHost(lambda: Model(2), settings, clock=clock, metrics=metrics)

process.build_host = build_host
process._SHOWN_SECONDS = 5
sys.exit(process.run(WorkerSettings(engine="echo-duplex", slots=2, listen="127.0.0.1:0", drain_seconds=0.2)))
"""


@pytest.mark.parametrize(
    ("step", "status", "message"),
    [
        ("raise RuntimeError('CUDA error')", "failed", "the model has failed"),
        ("time.sleep(3600)", "stalled", "the worker has fallen silent"),
    ],
)
async def test_a_model_that_fails_or_hangs_shows_at_health_and_its_process_goes(
    step: str, status: str, message: str
) -> None:
    with running_worker(command=[sys.executable, "-c", _MODEL.format(step=step, load="pass")]) as worker:
        engine = WorkerEngine(worker.url, clock=time.monotonic_ns, options=LinkOptions(patience=50, open=PATIENCE))
        await engine.start()
        call = Call(await engine.open("a"))
        try:
            assert await call.ending() == message
            health = await health_of(worker.url, lambda health: not health.is_success)
            assert health.json()["status"] == status
            if status == "stalled":
                worker.process.terminate()
            assert await asyncio.to_thread(worker.process.wait, PATIENCE) == 1
        finally:
            await call.close()
            await engine.close()


def test_a_worker_that_loads_goes_when_it_is_told_to() -> None:
    command = [sys.executable, "-c", _MODEL.format(step="pass", load="time.sleep(3600)")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        process.terminate()
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--slots", "0"], "--slots: "),
        (["--listen", "here"], "--listen: "),
        (["--listen", "0.0.0.0:0"], "MUSE_WORKER_KEY"),
        (["--engine", "llama"], "--engine: "),
        (["--engine", "moshi"], "--model: "),
        (["--name", "two words"], "--name: "),
        (["--hotkey", "somebody"], "--hotkey: "),
    ],
)
def test_a_wrong_setting_is_one_line(options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "models", "worker", "--engine", "echo-duplex", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("worker: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
