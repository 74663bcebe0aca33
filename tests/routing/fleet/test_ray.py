"""The contract of fleets on a Ray cluster of this machine, and what is Ray's own."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.prerequisites import absent
from tests.routing.fleet.contract import KeepingContract
from tests.routing.fleet.grounds import Ground, KeptGround, Talk, kill


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of this machine."""
    if find_spec("ray") is None:
        absent("ray is not installed: pip install 'muse-voice[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray: Any = import_module("ray")
    before = signal.getsignal(signal.SIGTERM)
    context = ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    yield context.address_info["gcs_address"]
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


class RayGround(KeptGround):
    def __init__(self, directory: Path, cluster: str) -> None:
        super().__init__(directory, "ray")
        self._cluster = cluster

    @property
    def options(self) -> Mapping[str, Any]:
        return {"ray_address": self._cluster, "worker_cpus": 0}


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
        kill([_parent(pid)])
        await ground.one("a", "lost")
        assert pid not in ground.pids("a")
        talk = await Talk.on(ground.pool, await ground.one("a", "ready"))
        await talk.goes_on()
        await talk.close()
        assert ground.of("a")[0].id == worker.id


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
