"""The embedded ears: Whisper, a job for each turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from models.embedded.scheduler import Deadline, Job, Scheduler
from streaming.engine import Samples, Transcribe


class SpeechModel(Protocol):
    """What `speech_to_text.SpeechToText` does; may be called from several threads."""

    def transcribe(self, audio: Samples, *, language: str | None, prompt: str | None, check: Callable[[], None]) -> str:
        """The words in `audio`, 16 kHz. Calls `check` before each run of the model; what it raises ends the work."""

    def warm_up(self) -> None:
        """Run once."""


class SmallEars:
    """See `parts.Ears`. `load` makes the model, in a thread, at the start."""

    def __init__(self, load: Callable[[], SpeechModel], scheduler: Scheduler) -> None:
        self._load = load
        self._scheduler = scheduler
        self._model: SpeechModel | None = None

    async def start(self) -> None:
        """Load the model and run it once."""
        self._model = await asyncio.to_thread(self._load)
        await asyncio.to_thread(self._model.warm_up)

    async def transcribe(
        self, session_id: str, command: Transcribe, *, needed_at: Deadline, on_begun: Callable[[], None]
    ) -> str:
        """See `parts.Ears`."""
        model = self._model
        if model is None:
            raise RuntimeError("the ears have not been started")

        def listen(job: Job) -> str:
            on_begun()
            return model.transcribe(command.audio, language=command.language, prompt=command.prompt, check=job.check)

        return await self._scheduler.run(session_id, listen, needed_at=needed_at)

    async def close(self) -> None:
        """Let the model go."""
        self._model = None
