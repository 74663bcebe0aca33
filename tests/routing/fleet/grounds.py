"""What the contract of fleets is tried on: each kind of fleet, with real workers that have no model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from models.catalogue import EngineSettings, build_engine
from routing.fleet.command import WorkerCommand, environment
from routing.fleet.contract import Deployment, Fleet, Worker
from routing.fleet.opening import open_fleet
from routing.fleet.pool import EnginePool
from routing.fleet.process import WorkerProcess
from routing.fleet.watch import Pace
from routing.settings import RoutingSettings
from streaming.engine import Begin, EngineLost, EngineSession, HearAudio, Speech
from streaming.wire.moshi import FRAME_SAMPLES

KEY = "a-key-that-is-long-enough"
OPTIONS = "--engine echo-duplex --slots 2 --late-ms 1000000"
PATIENCE = 500.0
"""Seconds for which a worker may be silent: what is seen sooner is seen by itself."""

PACE = Pace(look=0.2, settle=0.5, refusal=(1.0, 60.0), hung=PATIENCE)
SECONDS = 240.0
"""What anything may take on a busy machine."""

BAD = "model.safetensors: sha256 is not what is pinned"
_INTERPRETER = """#!/bin/sh
case "$*" in *--model=bad*) echo "worker: {bad}" >&2; exit 2;; esac
exec {python} "$@"
"""


FleetKind = Literal["static", "local", "ray"]


class Ground(ABC):
    """One kind of fleet, and workers for it. Every key has a part of its own, by which processes are found."""

    keeps: bool
    """Whether it starts and stops its workers."""

    def __init__(self, directory: Path) -> None:
        self._tag = uuid.uuid4().hex
        self.python = directory / "python"
        self.python.write_text(_INTERPRETER.format(bad=BAD, python=sys.executable))
        self.python.chmod(0o755)
        settings = EngineSettings(engine_key=KEY, engine_patience=PATIENCE)
        self.pool = EnginePool(lambda address: build_engine(address, settings))
        self.fleet: Fleet

    @abstractmethod
    async def up(self, *names: str) -> None:
        """A started fleet, with one worker of each of these models. A model named `bad` cannot be loaded."""

    @abstractmethod
    async def revive(self, key: str) -> None:
        """What an operator does about a worker that was killed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        await self.emptied()

    async def down(self) -> None:
        if "fleet" in vars(self):
            await self.fleet.close()
        await self.pool.close()

    async def emptied(self) -> None:
        """The fleet has been closed: returns when no worker of its own is left, which is at once where it says so."""
        assert not self.pids()

    @property
    def options(self) -> Mapping[str, Any]:
        """Settings of this kind's own."""
        return {}

    def settings(self, fleet: FleetKind) -> RoutingSettings:
        return RoutingSettings(
            fleet=fleet, worker_python=self.python, worker_options=OPTIONS, worker_gpus=0, **self.options
        )

    def deployment(self, name: str, *, workers: int = 1) -> Deployment:
        return Deployment(key=self.key(name), weights=name, workers=workers)

    def key(self, name: str) -> str:
        return f"{self._tag}/{name}"

    def pids(self, name: str = "") -> list[int]:
        """Worker processes of this model, or of all; those that have ended and wait for their parent are not."""
        return [pid for pid in processes() if f"--name={self.key(name)}" in command_line(pid)]

    def of(self, name: str) -> list[Worker]:
        return [worker for worker in self.fleet.workers() if worker.key == self.key(name)]

    async def one(self, name: str, state: str) -> Worker:
        """The one worker of this model, once it is in this state."""
        await until(lambda: [worker.state for worker in self.of(name)] == [state], self.fleet.workers)
        return self.of(name)[0]


class StaticGround(Ground):
    keeps = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._workers: dict[str, tuple[str, WorkerProcess]] = {}

    async def up(self, *names: str) -> None:
        addresses = [await self._start(name) for name in names]
        self.fleet = open_fleet(self.settings("static"), addresses, self.pool, key=KEY, pace=PACE)
        await self.fleet.start()

    async def revive(self, key: str) -> None:
        address, process = self._workers[key]
        await process.stop(1)
        await self._start(key, address.removeprefix("ws://"))

    async def down(self) -> None:
        await super().down()
        for _, process in self._workers.values():
            await process.stop(1)

    async def _start(self, name: str, listen: str = "127.0.0.1:0") -> str:
        command = WorkerCommand.parse(self.python, OPTIONS)
        process = await WorkerProcess.spawn(
            command.line(self.deployment(name), listen=listen), environment(os.environ, KEY)
        )
        ready = await process.ready()
        address = ready if isinstance(ready, str) else "ws://127.0.0.1:9"
        self._workers[name] = address, process
        assert isinstance(ready, str) or ready.problem == BAD, ready
        return address


class KeptGround(Ground):
    keeps = True

    def __init__(self, directory: Path, kind: FleetKind) -> None:
        super().__init__(directory)
        self._kind = kind

    async def up(self, *names: str) -> None:
        self.fleet = open_fleet(self.settings(self._kind), [], self.pool, key=KEY, pace=PACE)
        await self.fleet.start()
        await self.fleet.want([self.deployment(name) for name in names])

    async def revive(self, key: str) -> None:
        """Nothing: that is the fleet's to do."""


class Talk:
    """A conversation that goes on and on: frames are sent, and what comes back is counted."""

    def __init__(self, session: EngineSession) -> None:
        self.session = session
        self.heard = 0
        self.lost: str | None = None
        self._tasks = [asyncio.create_task(self._speak()), asyncio.create_task(self._listen())]

    @classmethod
    async def on(cls, pool: EnginePool, worker: Worker) -> Talk:
        return cls(await pool.open(worker.address, "session", model=worker.key))

    async def goes_on(self) -> None:
        """Returns when more has been said; fails where the conversation is lost."""
        before = self.heard
        await until(lambda: self.heard > before or self.lost is not None)
        assert self.lost is None, self.lost

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    async def _speak(self) -> None:
        self.session.send(Begin(instructions="", voice=""))
        while True:
            self.session.send(HearAudio(audio=np.full(FRAME_SAMPLES, 0.1, np.float32)))
            await asyncio.sleep(0.08)

    async def _listen(self) -> None:
        async for event in self.session.events():
            if isinstance(event, EngineLost):
                self.lost = event.message
            self.heard += isinstance(event, Speech)


async def until(so: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Wait until it is so; `what` tells how it is instead."""
    deadline = time.monotonic() + SECONDS
    while not so():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.02)


def kill(pids: Sequence[int]) -> None:
    assert pids
    assert 0 not in pids, "one has gone already"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def parent(pid: int) -> int:
    """Its parent's id; 0 where it has gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
