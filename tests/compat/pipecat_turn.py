"""One spoken turn through pipecat's OpenAI Realtime service; runs in pipecat's own environment.

`python pipecat_turn.py URL FILE.wav` says the recording (16-bit mono) in real time and prints one JSON object: what
pipecat understood of both sides, the seconds of speech that it received, its context afterwards, and its errors.
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    InputAudioTranscription,
    SemanticTurnDetection,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

PATIENCE = 20.0


@dataclass
class Seen:
    """What came through the pipeline."""

    user: list[str] = field(default_factory=list)
    reply: list[str] = field(default_factory=list)
    audio_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Watch(FrameProcessor):  # type: ignore[misc]
    """Passes every frame on, and notes those that make up the turn."""

    def __init__(self, seen: Seen, direction: FrameDirection) -> None:
        super().__init__()
        self._seen = seen
        self._direction = direction

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self._direction:
            self._note(frame)
        await self.push_frame(frame, direction)

    def _note(self, frame: Frame) -> None:
        seen = self._seen
        match frame:
            case ErrorFrame():
                seen.errors.append(frame.error)
                seen.over.set()
            case TranscriptionFrame():
                seen.user.append(frame.text)
            case TTSTextFrame():
                seen.reply.append(frame.text)
            case TTSAudioRawFrame():
                seen.audio_seconds += len(frame.audio) / 2 / frame.sample_rate
            case LLMFullResponseEndFrame():
                seen.over.set()


async def speak(worker: PipelineWorker, path: str, over: asyncio.Event) -> None:
    """The recording and then silence, 20 ms at a time, until the reply is over."""
    with wave.open(path) as recording:
        rate = recording.getframerate()
        audio = recording.readframes(recording.getnframes())
    size = rate // 50 * 2
    due = asyncio.get_running_loop().time()
    deadline = due + len(audio) / 2 / rate + PATIENCE
    position = 0
    while not over.is_set() and due < deadline:
        frame = audio[position : position + size].ljust(size, b"\0")
        position += size
        await worker.queue_frame(InputAudioRawFrame(audio=frame, sample_rate=rate, num_channels=1))
        due += 0.02
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def turn(url: str, path: str) -> dict[str, Any]:
    """The whole turn."""
    seen = Seen()
    heard = AudioInput(transcription=InputAudioTranscription(), turn_detection=SemanticTurnDetection())
    properties = SessionProperties(audio=AudioConfiguration(input=heard), instructions="Answer in one sentence.")
    service = OpenAIRealtimeLLMService(
        api_key="any",
        base_url=url,
        settings=OpenAIRealtimeLLMService.Settings(model="auto", session_properties=properties),
    )
    context = LLMContext()
    sides = LLMContextAggregatorPair(context)
    up, down = Watch(seen, FrameDirection.UPSTREAM), Watch(seen, FrameDirection.DOWNSTREAM)
    worker = PipelineWorker(
        Pipeline([sides.user(), up, service, down, sides.assistant()]),
        params=PipelineParams(audio_in_sample_rate=24_000, audio_out_sample_rate=24_000),
        cancel_on_idle_timeout=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")  # type: ignore[untyped-decorator]
    async def begin(_worker: PipelineWorker, _frame: Frame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)

    async def converse() -> None:
        await asyncio.wait_for(started.wait(), PATIENCE)
        await speak(worker, path, seen.over)
        await worker.cancel()

    await asyncio.gather(runner.run(), converse())
    return {
        "user": " ".join(seen.user),
        "reply": "".join(seen.reply),
        "audio_seconds": seen.audio_seconds,
        "context": context.get_messages(),
        "errors": seen.errors,
        "over": seen.over.is_set(),
    }


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    sys.stdout.write(json.dumps(asyncio.run(turn(sys.argv[1], sys.argv[2]))))
