import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.embedded.phonemes import Phonemiser
from models.embedded.prepare import load_voice
from models.embedded.scheduler import Scheduler
from models.embedded.text_to_speech import ChunkOptions, SmallVoice, Synthesiser, VoiceConfig
from models.embedded.voice_split import LATENTS
from streaming.engine import Samples
from streaming.errors import EngineError
from tests.prerequisites import MODELS

CONFIG: dict[str, Any] = {
    "audio": {"sample_rate": 22050},
    "espeak": {"voice": "en-us"},
    "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
    "num_speakers": 1,
    "phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": [14], "\u0327": [140], "c": [16]},
}


def test_phonemes_are_padded_and_decomposed_and_strangers_left_out() -> None:
    config = VoiceConfig.parse(json.dumps(CONFIG).encode())
    assert config.encode("a\u00e7X") == [1, 0, 14, 0, 16, 0, 140, 0, 2]


@pytest.mark.parametrize("change", [{"num_speakers": 2}, {"audio": {}}, {"espeak": None}])
def test_a_voice_of_another_kind_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        VoiceConfig.parse(json.dumps(CONFIG | change).encode())


@given(st.integers(0, 2000))
def test_chunks_join_to_the_whole(frames: int) -> None:
    windows = list(ChunkOptions(first=14, longest=64).windows(frames))
    assert [frame for start, end in windows for frame in range(start, end)] == list(range(frames))


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return load_voice("joe", MODELS)


@pytest.fixture
async def voice(synthesiser: Synthesiser, scheduler: Scheduler) -> AsyncIterator[SmallVoice]:
    joe = SmallVoice("joe", lambda: synthesiser, scheduler, Phonemiser())
    await joe.start()
    yield joe
    await joe.close()


async def speak(voice: SmallVoice, text: str, *, speed: float = 1.0) -> list[Samples]:
    return [chunk.audio async for chunk in voice.speak("s", text, speed=speed, needed_at=lambda: 0)]


@pytest.mark.models
def test_speech_in_chunks_equals_speech_as_a_whole(synthesiser: Synthesiser) -> None:
    ids = synthesiser.config.encode(
        "h\u0259l\u02c8o\u028a \u00f0\u02c8\u025b\u0279, h\u02c8a\u028a \u0251\u02d0\u0279 ju\u02d0?" * 2
    )
    latents = synthesiser.latents(ids, speed=1.0, noise=np.random.default_rng(1))
    (whole,) = synthesiser._decoder.run(["output"], {LATENTS: latents})
    chunks = np.concatenate([chunk.audio for chunk in synthesiser.decode(latents)])
    assert latents.shape[2] > 150
    np.testing.assert_allclose(chunks, whole.reshape(-1), atol=1e-3)


@pytest.mark.models
async def test_a_clause_is_spoken_in_chunks_the_first_of_them_short(voice: SmallVoice) -> None:
    chunks = await speak(voice, "The moon goes around the earth in about a month.")
    audio = np.concatenate(chunks)
    assert chunks[0].size < 0.25 * voice.rate
    assert 1.5 < audio.size / voice.rate < 5
    assert 0.05 < np.abs(audio).max() <= 1.0
    assert all(chunk.dtype == np.float32 for chunk in chunks)


@pytest.mark.models
async def test_progress_ends_at_one(voice: SmallVoice) -> None:
    done = [chunk.done async for chunk in voice.speak("s", "One, two, three, four.", speed=1, needed_at=lambda: 0)]
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.models
async def test_equal_text_gives_equal_speech(voice: SmallVoice) -> None:
    first, again = [np.concatenate(await speak(voice, "Hello there.")) for _ in range(2)]
    np.testing.assert_array_equal(first, again)


@pytest.mark.models
async def test_speed_changes_the_length(voice: SmallVoice) -> None:
    text = "This is a sentence of some length."
    slow, normal, fast = [sum(map(len, await speak(voice, text, speed=speed))) for speed in (0.5, 1.0, 1.5)]
    assert slow / normal == pytest.approx(2, rel=0.15)
    assert fast / normal == pytest.approx(1 / 1.5, rel=0.15)


@pytest.mark.models
async def test_what_has_no_sound_gives_no_audio(voice: SmallVoice) -> None:
    assert await speak(voice, "...") == []
