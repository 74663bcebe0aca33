"""Asking a container as the engine does, without the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from models.container.answer import Answer
from models.container.client import RATE, ContainerClient, ContainerOptions, Task
from streaming.engine import Samples
from tests.models.container.fake_container import PATIENCE, FakeContainer

TURN: Samples = np.random.default_rng(0).uniform(-1, 1, RATE // 4).astype(np.float32)


class Clock:
    """Monotonic ns, as a test sets it."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@asynccontextmanager
async def client_of(
    container: FakeContainer, clock: Clock | None = None, **options: Any
) -> AsyncIterator[ContainerClient]:
    async with container.serve() as url:
        chosen = ContainerOptions(**({"connect": PATIENCE} | options))
        client = ContainerClient(url, clock=clock or Clock(), options=chosen)
        try:
            yield client
        finally:
            await client.close()


async def ask(client: ContainerClient, task: Task = "v2v", audio: Samples = TURN) -> Answer:
    async with asyncio.timeout(PATIENCE), client.turn():
        return await client.ask(task, audio)
