import asyncio

import numpy as np
import pytest

from benchmarks.recordings import recordings
from models.vad import Silero, SileroDetector, SileroState, VoiceGate
from models.weights import Weights
from streaming.engine import DETECTOR_RATE, VOICE_FRAME, Samples, VoiceActivityDetector
from streaming.errors import EngineError


@pytest.fixture(scope="module")
def model() -> Silero:
    return Silero(Weights())


@pytest.fixture
def detector() -> SileroDetector:
    return SileroDetector(Weights())


def frames(audio: Samples) -> list[Samples]:
    return [audio[at : at + VOICE_FRAME] for at in range(0, audio.size - VOICE_FRAME + 1, VOICE_FRAME)]


def noise(seconds: float, level: float, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, level, int(seconds * DETECTOR_RATE)).astype(np.float32)


def speech(name: str = "beckett", gain: float = 1.0) -> Samples:
    """A recording with a second of a quiet room before and after."""
    (recording,) = recordings(names=[name])
    padded = np.pad(recording.samples * np.float32(gain), DETECTOR_RATE)
    return padded + noise(padded.size / DETECTOR_RATE, 0.0003)


def alone(model: Silero, audio: Samples) -> list[float]:
    """What Silero says without a gate or a batch."""
    state = SileroState()
    return [model.step([frame], [state])[0] for frame in frames(audio)]


def test_the_gate_is_shut_in_silence_and_opens_on_sound() -> None:
    gate = VoiceGate()
    assert not any(gate.is_open(frame) for frame in frames(np.zeros(DETECTOR_RATE, dtype=np.float32)))
    tone = (0.3 * np.sign(np.sin(2 * np.pi * 150 * np.arange(DETECTOR_RATE) / DETECTOR_RATE))).astype(np.float32)
    assert any(gate.is_open(frame) for frame in frames(tone)[:4])


def test_the_gate_stays_open_for_half_a_second() -> None:
    gate = VoiceGate()
    tone = (0.3 * np.sign(np.sin(2 * np.pi * 150 * np.arange(DETECTOR_RATE) / DETECTOR_RATE))).astype(np.float32)
    for frame in frames(tone):
        gate.is_open(frame)
    after = [gate.is_open(frame) for frame in frames(np.zeros(2 * DETECTOR_RATE, dtype=np.float32))]
    assert 0.4 < sum(after) * VOICE_FRAME / DETECTOR_RATE < 1.0
    assert not after[-1]


@pytest.mark.models
class TestSilero:
    def test_a_batch_is_each_stream_alone(self, model: Silero) -> None:
        streams = [noise(1.0, level, seed) for seed, level in enumerate((0.3, 0.01, 0.1, 0.5))]
        states = [SileroState() for _ in streams]
        batched = [model.step(row, states) for row in zip(*map(frames, streams), strict=True)]
        separate = [alone(model, stream) for stream in streams]
        np.testing.assert_allclose(np.array(batched).T, separate, atol=1e-5)

    @pytest.mark.recordings
    async def test_sessions_batched_with_others_hear_what_they_hear_alone(self, detector: SileroDetector) -> None:
        clips = [speech(name)[: 3 * DETECTOR_RATE] for name in ("beckett", "cities-1", "cities-7", "telephone-hello")]

        async def listen(detector: SileroDetector, clip: Samples) -> list[float]:
            stream = detector.open()
            return [await stream.probability(frame) for frame in frames(clip)]

        together = await asyncio.gather(*(listen(detector, clip) for clip in clips))
        for clip, heard in zip(clips, together, strict=True):
            np.testing.assert_allclose(heard, await listen(SileroDetector(Weights()), clip), atol=1e-5)

    async def test_frames_due_together_go_through_the_model_once(
        self, detector: SileroDetector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows: list[int] = []
        step = Silero.step

        def counted(model: Silero, frames: list[Samples], states: list[SileroState]) -> list[float]:
            rows.append(len(frames))
            return step(model, frames, states)

        monkeypatch.setattr(Silero, "step", counted)
        streams = [detector.open() for _ in range(5)]
        await asyncio.gather(*(stream.probability(noise(0.032, 0.3)) for stream in streams))
        assert rows == [5]

    @pytest.mark.recordings
    @pytest.mark.parametrize("gain", [1.0, 0.05])
    async def test_the_gate_loses_less_than_a_hundredth_of_speech(
        self, model: Silero, detector: SileroDetector, gain: float
    ) -> None:
        lost = spoken = 0
        for name in ("beckett", "cities-7", "telephone-chicago"):
            audio, stream = speech(name, gain), detector.open()
            gated = np.array([await stream.probability(frame) for frame in frames(audio)])
            is_speech = np.array(alone(model, audio)) >= 0.5
            spoken += int(is_speech.sum())
            lost += int((is_speech & (gated < 0.5)).sum())
        assert spoken > 200
        assert lost < 0.01 * spoken

    async def test_silence_never_reaches_the_model(
        self, detector: SileroDetector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(Silero, "step")
        stream = detector.open()
        assert {await stream.probability(frame) for frame in frames(np.zeros(DETECTOR_RATE, dtype=np.float32))} == {0.0}

    async def test_frames_of_one_stream_keep_their_order(self, model: Silero, detector: SileroDetector) -> None:
        stream, audio = detector.open(), frames(noise(0.3, 0.3))
        answers = await asyncio.gather(*(stream.probability(frame) for frame in audio))
        np.testing.assert_allclose(answers, alone(model, np.concatenate(audio)), atol=1e-5)

    async def test_a_caller_who_leaves_does_not_disturb_the_others(self, detector: SileroDetector) -> None:
        gone = asyncio.ensure_future(detector.open().probability(noise(0.032, 0.3)))
        stays = asyncio.ensure_future(detector.open().probability(noise(0.032, 0.3)))
        await asyncio.sleep(0)
        gone.cancel()
        assert 0.0 <= await stays <= 1.0

    async def test_a_failing_model_is_an_engine_error_and_not_the_end(
        self, detector: SileroDetector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = detector.open()
        with monkeypatch.context() as broken:
            broken.setattr(Silero, "step", lambda *_: 1 / 0)
            with pytest.raises(EngineError, match="voice activity"):
                await stream.probability(noise(0.032, 0.3))
        assert 0.0 <= await stream.probability(noise(0.032, 0.3)) <= 1.0

    async def test_audio_that_is_not_a_number_is_silence(self, detector: SileroDetector) -> None:
        stream = detector.open()
        assert await stream.probability(np.full(VOICE_FRAME, np.nan, dtype=np.float32)) == 0.0

    async def test_a_frame_of_another_size_is_refused(self, detector: SileroDetector) -> None:
        implementation: VoiceActivityDetector = detector
        with pytest.raises(ValueError, match="512"):
            await implementation.open().probability(np.zeros(480, dtype=np.float32))
