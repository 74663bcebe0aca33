"""Which turns are heard, with the real ears and scheduler; the model behind them is held and released by the test."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from models.embedded.ears import SmallEars
from models.embedded.scheduler import Scheduler
from models.embedded.transcripts import Transcripts
from streaming.engine import EngineEvent, Samples, Transcribe, Transcript, TranscriptFailed


@dataclass
class HeldModel:
    """Hears how many samples there are, once `go` is set."""

    go: threading.Event = field(default_factory=threading.Event)
    began: list[int] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    def transcribe(self, audio: Samples, *, language: str | None, prompt: str | None, check: Callable[[], None]) -> str:
        self.began.append(audio.size)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            assert self.go.wait(5)
            check()
        finally:
            self.running -= 1
        return f"{audio.size} samples"

    def warm_up(self) -> None: ...


@dataclass
class Rig:
    model: HeldModel
    transcripts: Transcripts
    events: list[EngineEvent]

    def ask(self, samples: int, *, item_id: str = "i") -> None:
        """The turn's `samples`th revision, of as many samples."""
        self.transcripts.start(Transcribe(item_id=item_id, revision=samples, audio=np.zeros(samples, np.float32)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - seen from outside, a thread signals nothing
                await asyncio.sleep(0.001)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    scheduler = Scheduler(workers=2, max_sessions=1, jobs_per_session=1)
    model, events = HeldModel(), list[EngineEvent]()
    ears = SmallEars(lambda: model, scheduler)
    await ears.start()
    transcripts = Transcripts("s", ears, put=events.append, clock=lambda: 0)
    yield Rig(model, transcripts, events)
    model.go.set()
    await transcripts.close()
    await scheduler.close()


async def test_of_quick_revisions_one_is_in_work_and_only_the_newest_waits(rig: Rig) -> None:
    rig.ask(1)
    await rig.until(lambda: rig.model.began == [1])
    for samples in range(2, 6):
        rig.ask(samples)
        await asyncio.sleep(0.01)
    assert rig.model.began == [1]
    rig.model.go.set()
    assert (await rig.transcripts.hear("i")).text == "5 samples"
    assert rig.model.began == [1, 5]
    assert rig.model.most_running == 1
    assert rig.events == [Transcript(item_id="i", revision=5, text="5 samples")]


async def test_revisions_that_come_at_once_are_heard_once(rig: Rig) -> None:
    rig.model.go.set()
    for samples in range(1, 6):
        rig.ask(samples)
    assert (await rig.transcripts.hear("i")).text == "5 samples"
    assert rig.model.began == [5]


async def test_turns_are_heard_in_order_and_too_many_are_refused(rig: Rig) -> None:
    for number in range(10):
        rig.ask(1, item_id=f"i{number}")
    refused = [event.item_id for event in rig.events if isinstance(event, TranscriptFailed)]
    assert refused == ["i8", "i9"]
    rig.model.go.set()
    await rig.transcripts.hear("i7")
    assert [event.item_id for event in rig.events if isinstance(event, Transcript)] == [f"i{n}" for n in range(8)]
    assert rig.model.most_running == 1
