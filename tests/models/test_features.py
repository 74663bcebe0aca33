import numpy as np
import numpy.typing as npt
import pytest

from models.features import FRAMES_PER_SECOND, HOP, MELS, SAMPLE_RATE, WINDOW, log_mel, mel_filters
from streaming.engine import Samples

BINS = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)


def tone(hertz: float, seconds: float = 1.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def reference(audio: Samples, frames: int) -> npt.NDArray[np.float64]:
    """The definition, one frame and one sum at a time, in double precision."""
    padded = np.pad(np.pad(audio.astype(np.float64), (0, frames * HOP - audio.size)), WINDOW // 2, mode="reflect")
    window = np.array([np.sin(np.pi * n / WINDOW) ** 2 for n in range(WINDOW)])
    mel = np.zeros((MELS, frames))
    for frame in range(frames):
        spectrum = np.fft.fft(padded[frame * HOP : frame * HOP + WINDOW] * window)[: WINDOW // 2 + 1]
        mel[:, frame] = mel_filters().astype(np.float64) @ np.abs(spectrum) ** 2
    log = np.log10(np.maximum(mel, 1e-10))
    return np.asarray((np.maximum(log, log.max() - 8) + 4) / 4)


def test_filters_are_triangles_of_one_area_that_cover_the_spectrum() -> None:
    filters = mel_filters().astype(np.float64)
    assert filters.shape == (MELS, WINDOW // 2 + 1)
    assert (filters >= 0).all()
    wide = filters[40:]  # the narrow ones below are sampled too coarsely for a sum to be their area
    np.testing.assert_allclose(wide.sum(axis=1) * (BINS[1] - BINS[0]), 1.0, rtol=0.08)
    centres = BINS[filters.argmax(axis=1)]
    assert (np.diff(centres) >= 0).all()
    assert (filters[:, 1:-1].sum(axis=0) > 0).all()


def test_bands_are_even_below_1_khz_and_logarithmic_above() -> None:
    filters = mel_filters().astype(np.float64)
    centres = (filters @ BINS) / filters.sum(axis=1)
    low, high = centres[centres < 900], centres[(centres > 1500) & (centres < 7000)]
    np.testing.assert_allclose(np.diff(low), np.diff(low).mean(), rtol=0.25)
    np.testing.assert_allclose(high[1:] / high[:-1], (high[-1] / high[0]) ** (1 / (high.size - 1)), rtol=0.02)


@pytest.mark.parametrize("samples", [0, 1, 399, 4_000, 16_000])
def test_equals_the_definition(samples: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    np.testing.assert_allclose(log_mel(noise, 100), reference(noise, 100), atol=2e-5)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    centres = BINS[mel_filters().argmax(axis=1)]
    for hertz in (300, 1000, 3000):
        band = log_mel(tone(hertz), FRAMES_PER_SECOND)[:, 50].argmax()
        assert abs(centres[band] - hertz) < max(60, 0.06 * hertz)


def test_silence_is_flat_and_nothing_is_more_than_80_db_down() -> None:
    silence = log_mel(np.zeros(0, dtype=np.float32), 200)
    np.testing.assert_allclose(silence, (-10 + 4) / 4, atol=1e-6)
    loud = log_mel(tone(1000), 200)
    np.testing.assert_allclose(loud.min(), loud.max() - 2.0, atol=1e-6)


def test_what_goes_beyond_the_window_is_cut() -> None:
    audio = tone(440, 3.0)
    np.testing.assert_array_equal(log_mel(audio, 100), log_mel(audio[: 100 * HOP], 100))


def test_is_shaped_as_the_models_take_it() -> None:
    features = log_mel(tone(440), 123)
    assert features.shape == (MELS, 123)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
