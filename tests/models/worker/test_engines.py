"""The engine that the settings name, and the name that it goes by."""

import time

import pytest

from models.worker.engines import build_host
from models.worker.metrics import WorkerMetrics
from models.worker.settings import WorkerEngineKind
from tests.models.worker.loopback import begin, settings, worker

NAME = "alice/moshi@" + "1" * 40


@pytest.mark.parametrize("engine", ["echo", "echo-duplex", pytest.param("embedded", marks=pytest.mark.models)])
async def test_gateways_are_told_the_workers_name_in_place_of_the_engines(engine: WorkerEngineKind) -> None:
    chosen = settings(engine=engine, name=NAME)
    host = build_host(chosen, clock=time.monotonic_ns, metrics=WorkerMetrics())
    async with worker(host=host, engine=engine) as running:
        assert (await running.get("/health")).json()["engine"]["model"] == NAME
        async with running.talk() as client:
            await begin(client)
            assert NAME in str(await client.recv()) + str(await client.recv())
    assert host.info.model == NAME


async def test_without_a_name_it_goes_by_the_engines_own() -> None:
    async with worker() as running:
        assert (await running.get("/health")).json()["engine"]["model"] == "muse-echo-duplex"
