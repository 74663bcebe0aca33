"""Spoken turns through pipecat's OpenAI Realtime service; runs in pipecat's own environment.

`python pipecat_turn.py URL FILE.wav [OVER.wav]` says the first recording (16-bit mono) in real time, and the second
over the reply to it. It prints one JSON object: what pipecat understood of both sides, the seconds of speech that it
received, its context after the last reply, and its errors.
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

PATIENCE = 200.0  # seconds that only a hang takes
SPOKEN_OVER = 0.4  # seconds of a reply that are let pass before it is spoken over


@dataclass
class Seen:
    """What came through the pipeline."""

    user: list[str] = field(default_factory=list)
    reply: list[str] = field(default_factory=list)
    audio_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    unsaid: int = 0
    turns: int = 1
    context: list[Any] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Watch(FrameProcessor):  # type: ignore[misc]
    """Passes every frame on, and notes those that make up the turn."""

    def __init__(self, seen: Seen, direction: FrameDirection) -> None:
        super().__init__()
        self._seen = seen
        self._direction = direction

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self._direction and not self._seen.over.is_set():
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
            case LLMFullResponseEndFrame() if not seen.unsaid and len(seen.user) >= seen.turns:
                seen.over.set()


async def speak(worker: PipelineWorker, paths: list[str], seen: Seen) -> None:
    """The recordings and then silence, 20 ms at a time, until the last reply is over."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    audio, position = b"", 0
    waiting = list(paths)
    while not seen.over.is_set():
        if position >= len(audio) and waiting and (not audio or seen.audio_seconds > SPOKEN_OVER):
            audio, rate = read(waiting.pop(0))
            size, position = rate // 50 * 2, 0
        frame = audio[position : position + size].ljust(size, b"\0")
        position += size
        if position >= len(audio):
            seen.unsaid = len(waiting)
        await worker.queue_frame(InputAudioRawFrame(audio=frame, sample_rate=rate, num_channels=1))
        due += 0.02
        await asyncio.sleep(max(0.0, due - loop.time()))


def read(path: str) -> tuple[bytes, int]:
    """A recording's samples and rate."""
    with wave.open(path) as recording:
        return recording.readframes(recording.getnframes()), recording.getframerate()


async def converse(url: str, paths: list[str]) -> dict[str, Any]:
    """All the turns."""
    seen = Seen(unsaid=len(paths), turns=len(paths))
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

    async def talk() -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await started.wait()
                await speak(worker, paths, seen)
                # What was said last is written down by the pipeline's last processor, which tells nobody.
                # Then it shows the context to the service, which has seen none yet and asks for a reply of its own.
                while not (messages := context.get_messages()) or messages[-1]["role"] != "assistant":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                seen.context = list(messages)
        finally:
            await worker.cancel()

    await asyncio.gather(runner.run(), talk())
    return {
        "user": " ".join(seen.user),
        "turns": len(seen.user),
        "reply": "".join(seen.reply),
        "audio_seconds": seen.audio_seconds,
        "context": seen.context,
        "errors": seen.errors,
    }


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    sys.stdout.write(json.dumps(asyncio.run(converse(sys.argv[1], sys.argv[2:]))))
