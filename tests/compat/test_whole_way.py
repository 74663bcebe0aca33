"""From a commitment on the chain to a voice, and from one model to the next: everything real but the chain itself.

The server is `python -m server` with processes of this machine as its fleet; the checkpoints are tiny and their weights
random, so that they say noise, without end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI

from benchmarks.server_process import ROOT, RunningServer, running_server
from routing.scores.submission import Score, Submission
from routing.scores.submit import submit
from tests.prerequisites import WORKER_PYTHON
from tests.routing.chain.fake_chain import commitment, hotkey, keypair

pytestmark = [pytest.mark.worker, pytest.mark.timeout(1800)]

RATE = 24_000
FRAME = RATE * 2 // 25  # 80 ms, as the model has them
PATIENCE = 240.0
"""Seconds that only a hang takes."""
CALLERS = 2

A, B = "omega/moshi-a", "omega/moshi-b"
MINERS = {A: "alice", B: "bob"}
VALIDATORS = ("charlie", "dave", "eve")


def commit_of(model: str) -> str:
    return hashlib.sha1(model.encode()).hexdigest()


def version(model: str) -> str:
    return f"{model}@{commit_of(model)}"


@dataclass
class Site:
    """Where everything lies; `incentives` are what the chain gives to each model."""

    path: Path
    block: int = 5_000_000
    incentives: dict[str, float] = field(default_factory=lambda: {A: 0.6})

    @property
    def chain(self) -> Path:
        return self.path / "chain.json"

    def write_chain(self) -> None:
        """Whole, as a reader may come at any time."""
        self.block += 10
        neurons = [{"hotkey": hotkey(MINERS[model]), "incentive": share} for model, share in self.incentives.items()]
        neurons += [{"hotkey": hotkey("ferdie"), "incentive": 0.1}]
        neurons += [{"hotkey": hotkey(name), "permit": True, "stake": 5000.0} for name in VALIDATORS]
        commitments = {hotkey(MINERS[model]): commitment(model, commit=commit_of(model)) for model in self.incentives}
        commitments[hotkey("ferdie")] = commitment("omega/moshi-f", commit=commit_of(A))  # somebody else's weights
        document = {"block": self.block, "neurons": neurons, "commitments": commitments}
        new = self.chain.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.rename(self.chain)

    def write_checkpoints(self) -> None:
        for seed, model in enumerate(MINERS):
            directory = self.path / "mirror" / model / commit_of(model)
            directory.mkdir(parents=True)
            command = [str(WORKER_PYTHON), "-m", "models", "tiny", str(directory), "--seed", str(seed)]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            (directory / "hotkey.txt").write_text(hotkey(MINERS[model]) + "\n")

    def settings(self) -> Mapping[str, str]:
        routing = {
            "SOURCE": "chain",
            "NETWORK": "local",
            "COMPETITION": "v1",
            "CACHE": str(self.path / "leaderboard.json"),
            "DATABASE": f"sqlite:///{self.path}/muse.db",
            "HOTKEY": hotkey("server"),
            "REFRESH_SECONDS": "1",
            "CONTROL_SECONDS": "0.5",
            "FLEET": "local",
            "WORKER_OPTIONS": "--device cpu --slots 8 --late-ms 1000000",
            "DWELL_SECONDS": "1",
            "SHADOW_SHARE": "1",
            "SHADOW_TURNS": "1",
            "CANARY_STEPS": "0.5",
            "CANARY_TURNS": "1",
            # A machine that is busy with other tests is late by itself, and slow: nothing but what is made late below
            # may tell the models apart.
            "WORSE_MISSES": "0.2",
            "LEAST_FRAMES": "100",
            "LEAST_TURNS": "1000000",
            "WORSE_SILENCE": "1",
        }
        return {
            "MUSE_DETECTORS": "loudness",
            "MUSE_ENGINE_PATIENCE": "100000",
            "MUSE_HUB_MIRROR": str(self.path / "mirror"),
            "MUSE_HUB_CACHE": str(self.path / "hub"),
            **{f"MUSE_ROUTING_{name}": value for name, value in routing.items()},
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"))
    site.write_checkpoints()
    site.write_chain()
    return site


@pytest.fixture(scope="module")
def gateway(site: Site) -> Iterator[RunningServer]:
    module = ("tests.compat.server_on_a_fake_chain", str(site.chain))
    with running_server("embedded", site.settings(), module=module) as server:
        yield server


@dataclass
class Call:
    """`model` is the version that serves it, `heard` how many samples came, `wrong` what went wrong."""

    model: str = ""
    role: str = ""
    heard: int = 0
    wrong: str = ""


@contextlib.asynccontextmanager
async def calling(gateway: RunningServer) -> AsyncIterator[Call]:
    """A call with the stock SDK that speaks and hears inside the context; ready once it is heard.

    It speaks in real time, but waits a while for each frame to be answered: where the machine is too busy for the model
    to keep up, frames would be late for no fault of the model's.
    """
    call, heard, more = Call(), asyncio.Event(), asyncio.Event()
    client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any")
    async with client, client.realtime.connect(model="auto") as connection:

        async def speak() -> None:
            babble = (0.1 * np.random.default_rng(1).standard_normal(FRAME) * 32767).astype("<i2").tobytes()
            while True:
                more.clear()
                await connection.input_audio_buffer.append(audio=base64.b64encode(babble).decode())
                await asyncio.sleep(FRAME / RATE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(more.wait(), 1)

        async def hear() -> None:
            async for event in connection:
                match event.type:
                    case "session.created":
                        told: Any = event.session
                        call.model, call.role = told.metadata["muse.model"], told.metadata["muse.role"]
                    case "response.output_audio.delta":
                        call.heard += len(base64.b64decode(event.delta)) // 2
                        heard.set()
                        more.set()
                    case "error":
                        call.wrong = call.wrong or event.error.message
                        heard.set()
            call.wrong = call.wrong or "the connection was closed"

        tasks = [asyncio.create_task(speak()), asyncio.create_task(hear())]
        try:
            await asyncio.wait_for(heard.wait(), PATIENCE)
            yield call
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def heard_more(call: Call, samples: int) -> None:
    """Wait until so many more have come, or none will."""
    earlier = call.heard
    async with asyncio.timeout(PATIENCE):
        while call.heard - earlier < samples and not call.wrong:  # noqa: ASYNC110 the call's own task counts them
            await asyncio.sleep(0.1)


async def leaderboard(http: httpx.AsyncClient) -> dict[str, Any]:
    response = await http.get("/v1/leaderboard")
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


async def until(http: httpx.AsyncClient, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first leaderboard of which this holds."""
    board: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds(board := await leaderboard(http)):  # noqa: ASYNC110 another process changes it
                await asyncio.sleep(0.3)
    except TimeoutError:
        shown = {name: board[name] for name in ("rollout", "models", "problem")}
        raise AssertionError(json.dumps(shown, indent=1)) from None
    return board


def status(board: dict[str, Any], model: str) -> str:
    found = [entry["status"] for entry in board["models"] if entry["id"] == model]
    return str(found[0]) if found else "absent"


async def score(gateway: RunningServer, http: httpx.AsyncClient, block: int, totals: Mapping[str, float]) -> None:
    """Every validator delivers, three times."""
    for run in range(3):
        for name in VALIDATORS:
            scores = tuple(
                Score(version=version(model), status="ok", metrics={"total": total + 0.001 * run})
                for model, total in totals.items()
            )
            submission = Submission(profile="test-1", validator_version="0.1.0", block=block, scores=scores)
            await submit(http, gateway.url, submission, wallet=keypair(name), receiver=hotkey("server"))


def worker_of(model: str) -> int:
    """The process that serves a model."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if f"--name={version(model)}".encode() in words and b"-m" in words[:3]:
                return int(directory.name)
    raise AssertionError(f"no worker serves {model}")


@contextlib.asynccontextmanager
async def stuttering(pid: int) -> AsyncIterator[None]:
    """Inside the context the process is stopped again and again, so shortly that it catches up each time."""

    async def stutter() -> None:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(0.5)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(stutter())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_the_leaderboard_decides_who_is_heard(site: Site, gateway: RunningServer) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE) as http, contextlib.AsyncExitStack() as calls:
        # What was committed is fetched, checked and loaded; a call to it is heard.
        board = await until(http, lambda board: status(board, A) == "serving")
        assert [(entry["code"], entry["hotkey"]) for entry in board["excluded"]] == [("reused_hash", hotkey("ferdie"))]
        old = [await calls.enter_async_context(calling(gateway)) for _ in range(CALLERS)]
        assert [(call.model, call.wrong) for call in old] == [(version(A), "")] * CALLERS

        # Another is committed, after it: of two, whichever is loaded first would serve. Validators score both, then
        # the chain gives the other one more.
        site.incentives = {A: 0.6, B: 0.2}
        site.write_chain()
        await until(http, lambda board: status(board, B) == "ready")
        await score(gateway, http, site.block, {A: 0.6, B: 0.62})
        site.incentives = {A: 0.3, B: 0.6}
        site.write_chain()
        board = await until(http, lambda board: board["rollout"]["stage"] == "shadow")
        assert board["rollout"]["candidate"] == version(B)
        served = await promote(gateway, http, calls)

        # No call has been dropped, and the old ones go on where they began.
        for call in old:
            await heard_more(call, RATE)
            assert call.wrong == ""

        # The new model becomes slow: the old one serves again, and nobody had to see to it.
        new = [await calls.enter_async_context(calling(gateway)) for _ in range(CALLERS)]
        assert [call.model for call in new] == [version(B)] * CALLERS
        async with stuttering(worker_of(B)):
            board = await until(http, lambda board: board["rollout"]["stage"] == "rolled_back")
        assert (board["rollout"]["incumbent"], board["rollout"]["reason"]["code"]) == (version(A), "misses")
        assert status(board, A) == "serving"
        assert status(board, B) == "barred"
        async with calling(gateway) as last:
            assert (last.model, last.wrong) == (version(A), "")
        assert [call.wrong for call in (*old, *served, *new)] == [""] * (2 * CALLERS + len(served))


async def promote(gateway: RunningServer, http: httpx.AsyncClient, calls: contextlib.AsyncExitStack) -> list[Call]:
    """New calls come until the candidate has come through all stages; returns those that stay, one with each model."""
    served = [await calls.enter_async_context(calling(gateway))]
    assert served[0].model == version(A)  # the candidate hears it too, and is not heard
    await until(http, lambda board: board["rollout"]["stage"] == "canary")
    async with asyncio.timeout(PATIENCE):
        while len(served) == 1:  # half of the new calls are the candidate's, by chance
            async with contextlib.AsyncExitStack() as this:
                call = await this.enter_async_context(calling(gateway))
                assert call.wrong == ""
                if call.model == version(B):
                    served.append(call)
                    calls.push_async_callback(this.pop_all().aclose)
    await until(http, lambda board: board["rollout"]["incumbent"] == version(B))
    return served
