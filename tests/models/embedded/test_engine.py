"""The whole chain with its real models: a voice asks, the engine answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from models.catalogue import EngineSettings, build_engine
from models.embedded.phonemes import Phonemiser
from models.embedded.prepare import load_voice
from models.instructions import DEFAULT_INSTRUCTIONS
from streaming.audio import resample
from streaming.engine import (
    ChatMessage,
    Engine,
    EngineEvent,
    ReplyAudio,
    ReplyEnded,
    ReplyStage,
    ReplyText,
    Samples,
    StartReply,
    Transcribe,
    Transcript,
)
from streaming.errors import EngineError

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]  # three conversations with all the models at once


@pytest.fixture
async def engine(models_dir: Path) -> AsyncIterator[Engine]:
    built = build_engine("embedded", EngineSettings(models_dir=models_dir, max_sessions=3, workers=2))
    await built.start()
    yield built
    await built.close()


async def question(models_dir: Path, text: str) -> Samples:
    """`text` as someone might ask it, at 16 kHz."""
    speaker, phonemiser = load_voice("joe", models_dir), Phonemiser()
    ids = speaker.config.encode(await phonemiser.phonemes(speaker.config.accent, text))
    await phonemiser.close()
    latents = speaker.latents(ids, speed=1.0, noise=np.random.default_rng(7))
    audio = np.concatenate([chunk.audio for chunk in speaker.decode(latents)])
    return resample(audio, speaker.config.rate, 16_000)


async def converse(engine: Engine, name: str, audio: Samples) -> list[EngineEvent]:
    session = await engine.open(name)
    session.send(Transcribe(item_id="i", revision=1, audio=audio))
    messages = (ChatMessage(role="user", text=None, item_id="i"),)
    session.send(
        StartReply(response_id="r", instructions=DEFAULT_INSTRUCTIONS, messages=messages, speaks=True, voice="")
    )
    events = []
    async for event in session.events():
        events.append(event)
        if isinstance(event, ReplyEnded):
            break
    await session.close()
    return events


async def test_three_callers_at_once_are_heard_and_answered(engine: Engine, models_dir: Path) -> None:
    audio = await question(models_dir, "What is the capital of France?")
    asked = time.monotonic_ns()
    for events in await asyncio.gather(*(converse(engine, name, audio) for name in "abc")):
        (heard,) = [event.text for event in events if isinstance(event, Transcript)]
        assert "capital of france" in heard.lower()
        assert "Paris" in "".join(event.text for event in events if isinstance(event, ReplyText))
        spoken = np.concatenate([event.audio for event in events if isinstance(event, ReplyAudio)])
        assert spoken.size > engine.info.output_rate
        assert np.abs(spoken).max() > 0.05
        stages = [event for event in events if isinstance(event, ReplyStage)]
        assert {event.stage for event in stages} == {
            "queue", "transcribe", "first_token", "first_clause", "first_audio",
        }  # fmt: skip
        assert all(event.at >= asked for event in stages)


async def test_missing_files_are_named_at_the_start(tmp_path: Path) -> None:
    engine = build_engine("embedded", EngineSettings(models_dir=tmp_path))
    with pytest.raises(EngineError, match="was not found"):
        await engine.start()
    await engine.close()
