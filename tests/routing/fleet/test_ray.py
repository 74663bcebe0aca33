"""The contract of fleets on a Ray cluster of this machine, and what is Ray's own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from routing.fleet.command import ROOT, WorkerCommand
from routing.fleet.contract import Deployment
from routing.fleet.launcher import Exit
from routing.fleet.process import tied
from routing.fleet.ray import RayLauncher
from routing.fleet.ray_cluster import RayOptions, RayWorker, first_line
from streaming.errors import EngineError
from tests.prerequisites import require_ray
from tests.routing.fleet.contract import KeepingContract
from tests.routing.fleet.grounds import (
    KEY,
    SECONDS,
    Ground,
    KeptGround,
    Talk,
    command_line,
    kill,
    parent,
    processes,
    until,
)

pytestmark = pytest.mark.timeout(900)

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_timeout_ms": f"{SECONDS * 1000:.0f}",
    # Else every driver that comes has processes started ahead of need, which a busy machine can do without.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}


@pytest.fixture(autouse=True, scope="module")
def ray_is_at_hand() -> Iterator[None]:
    """Installed, patient, and with a place for its files that is removed."""
    require_ray()
    # The path of a socket in it is at most 107 characters long: not below pytest's directory.
    directory = tempfile.mkdtemp(prefix="muse-ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (_SETTINGS | {"RAY_TMPDIR": directory}).items():
            patch.setenv(name, value)
        yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(ray_is_at_hand: None) -> Iterator[str]:
    """The address of a cluster of this machine."""
    ray: Any = import_module("ray")
    before = signal.getsignal(signal.SIGTERM)
    context = ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, before)  # Ray's would fail one test and go on
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


class RayGround(KeptGround):
    def __init__(self, directory: Path, cluster: str) -> None:
        super().__init__(directory, "ray")
        self._cluster = cluster

    @property
    def options(self) -> Mapping[str, Any]:
        return {"ray_address": self._cluster, "worker_cpus": 0}

    async def emptied(self) -> None:
        """Of an actor that has not come to answer, and of its process, Ray disposes a little later."""
        await until(lambda: not self.pids(), self.pids)


@pytest.fixture
async def ground(tmp_path: Path, cluster: str) -> AsyncIterator[Ground]:
    async with RayGround(tmp_path, cluster) as ground:
        yield ground


class TestRay(KeepingContract):
    async def test_its_workers_listen_on_their_nodes_address(self, ground: Ground) -> None:
        node_address: Callable[[], str] = import_module("ray.util").get_node_ip_address
        await ground.up("a")
        worker = await ground.one("a", "ready")
        assert worker.address.startswith(f"ws://{node_address()}:")

    async def test_a_worker_goes_with_its_actor_and_comes_back(self, ground: Ground) -> None:
        await ground.up("a")
        worker = await ground.one("a", "ready")
        (pid,) = ground.pids("a")
        kill([parent(pid)])
        await ground.one("a", "lost")
        await until(lambda: pid not in ground.pids("a"))
        talk = await Talk.on(ground.pool, await ground.one("a", "ready"))
        await talk.goes_on()
        await talk.close()
        assert ground.of("a")[0].id == worker.id


def _children(of: int) -> list[int]:
    return [pid for pid in processes() if parent(pid) == of]


_GATEWAY = """
import asyncio, json, sys
from routing.fleet.contract import Deployment
from routing.fleet.opening import open_fleet
from routing.fleet.pool import EnginePool
from routing.settings import RoutingSettings

async def main():
    settings, key = RoutingSettings(**json.loads(sys.argv[1])), sys.argv[2]
    fleet = open_fleet(settings, [], EnginePool(None))
    await fleet.start()
    await fleet.want([Deployment(key=key, weights="a")])
    while [worker.state for worker in fleet.workers()] != ["ready"]:
        await asyncio.sleep(0.05)
    print(fleet.workers()[0].address, "ray" in sys.modules, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_cluster_of_its_own_goes_with_its_gateway_and_so_do_the_workers(tmp_path: Path) -> None:
    """And it is quiet, on loopback, and not in the gateway's process."""
    there = KeptGround(tmp_path, "ray")
    settings = there.settings("ray").model_dump(include={"fleet", "worker_python", "worker_options", "worker_gpus"})
    gateway = await asyncio.create_subprocess_exec(
        *tied([sys.executable, "-W", "error", "-c", _GATEWAY, json.dumps(settings, default=str), there.key("a")]),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert gateway.stdout is not None
    assert gateway.stderr is not None
    try:
        async with asyncio.timeout(SECONDS):
            said = (await gateway.stdout.readline()).decode().split()
            assert said, await gateway.stderr.read()
        assert said[0].startswith("ws://127.0.0.1:")
        assert said[1] == "False"
        (driver,) = _children(gateway.pid)
        cluster = _children(driver)
        assert len(cluster) > 1
        assert there.pids("a")
    finally:
        gateway.kill()
        await gateway.wait()
    await until(lambda: not there.pids(), there.pids)
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [driver, *cluster]))
    assert await gateway.stderr.read() == b""


async def test_a_lost_driver_is_replaced(ground: Ground) -> None:
    await ground.up("a")
    worker = await ground.one("a", "ready")
    (process,) = ground.pids("a")
    (driver,) = [pid for pid in _children(os.getpid()) if "ray_driver" in command_line(pid)]
    kill([driver])
    assert (await ground.one("a", "lost")).problem == "the process that speaks to Ray has gone"
    talk = await Talk.on(ground.pool, await ground.one("a", "ready"))
    await talk.goes_on()
    await talk.close()
    assert ground.of("a")[0].id == worker.id
    await until(lambda: process not in ground.pids("a"))
    assert ground.pids("a")


async def test_a_driver_that_breaks_off_in_the_middle_of_a_line_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = """input(); print('{"started": null}', flush=True); input(); print('{"worker": 1, "rea')"""
    monkeypatch.setattr("routing.fleet.ray.tied", lambda line: [sys.executable, "-c", driver])
    launcher = RayLauncher(WorkerCommand(python=Path(sys.executable)), RayOptions())
    await launcher.start()
    worker = await launcher.launch(Deployment(key="a", weights="a"))
    async with asyncio.timeout(SECONDS):
        assert await worker.ready() == Exit(problem="the process that speaks to Ray has gone")
        await worker.stop(0)
        await launcher.close()


def test_what_ray_says_is_shown_in_one_plain_line() -> None:
    assert first_line(RuntimeError("\n\x1b[31mit is full\nand more")) == "\\x1b[31mit is full"
    assert first_line(RuntimeError("")) == "RuntimeError"
    assert len(first_line(RuntimeError("x" * 1000))) < 310


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "127.0.0.1:1", "key": ""}, "MUSE_ENGINE_KEY"),
        ({"address": "nowhere:1:2:3", "key": KEY}, "MUSE_ROUTING_RAY_ADDRESS"),
    ],
)
async def test_what_cannot_work_is_told_at_the_start(options: Any, said: str) -> None:
    launcher = RayLauncher(WorkerCommand(python=Path(sys.executable)), RayOptions(**options))
    with pytest.raises(EngineError, match=said):
        await launcher.start()
    await launcher.close()


async def test_an_actor_that_cannot_be_reached_for_a_moment_has_not_gone() -> None:
    unavailable = import_module("ray.exceptions").ActorUnavailableError("socket closed", None)
    answers: list[Exception | Exit] = [unavailable, unavailable, Exit(problem="killed")]

    def answer() -> Any:
        future: Future[Exit] = Future()
        if isinstance(said := answers.pop(0), Exit):
            future.set_result(said)
        else:
            future.set_exception(said)
        return SimpleNamespace(future=lambda: future)

    actor = SimpleNamespace(gone=SimpleNamespace(remote=answer))
    worker = RayWorker(actor, [], RayOptions(), lambda work: None)
    assert await worker.gone() == Exit(problem="killed")
    assert answers == []


async def test_where_there_is_no_place_for_a_worker_that_is_told(cluster: str) -> None:
    command = WorkerCommand(python=Path(sys.executable))
    launcher = RayLauncher(command, RayOptions(address=cluster, cpus=1000, key=KEY, place=0.5))
    await launcher.start()
    worker = await launcher.launch(Deployment(key="a", weights="a"))
    assert await worker.ready() == Exit(problem="no node of the cluster has a place for it")
    await worker.stop(0)
    await launcher.close()
