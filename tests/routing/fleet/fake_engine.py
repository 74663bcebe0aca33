"""An engine whose start, and whose identity, a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from streaming.engine import EngineCommand, EngineEvent, EngineInfo
from streaming.errors import EngineChangedError, EngineError


def info(model: str = "m") -> EngineInfo:
    return EngineInfo(model=model, input_rate=24_000, output_rate=24_000)


@dataclass
class FakeSession:
    closed: bool = False

    def send(self, command: EngineCommand) -> None:
        pass

    async def events(self) -> AsyncIterator[EngineEvent]:
        return
        yield

    async def close(self) -> None:
        self.closed = True


@dataclass
class Place:
    """What stands at an address: `model` is None while nobody answers there. `hold` keeps starts waiting."""

    model: str | None = "m"
    fault: Exception | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    engines: list[FakeEngine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold.set()

    def build(self) -> FakeEngine:
        self.engines.append(FakeEngine(self))
        return self.engines[-1]


class FakeEngine:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._info: EngineInfo | None = None
        self.starts = 0
        self.closes = 0
        self.sessions: list[FakeSession] = []

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None
        return self._info

    async def start(self) -> None:
        self.starts += 1
        await self._place.hold.wait()
        if self._place.fault is not None:
            raise self._place.fault
        if self._place.model is None:
            raise EngineError("nobody is there")
        self._info = info(self._place.model)

    async def open(self, session_id: str) -> FakeSession:
        if self._place.model != self.info.model:
            raise EngineChangedError("it is another")
        self.sessions.append(FakeSession())
        return self.sessions[-1]

    async def close(self) -> None:
        self.closes += 1
