"""Whisper's input: the log-mel spectrogram of Radford et al. 2022 (arXiv:2212.04356), section 2.2, in numpy.

Audio is mono float32 at 16 kHz; a frame is 25 ms under a Hann window, one every 10 ms, in 80 mel bands.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from streaming.engine import Samples

SAMPLE_RATE = 16_000
WINDOW = 400
HOP = 160
MELS = 80
FRAMES_PER_SECOND = SAMPLE_RATE // HOP

Features = npt.NDArray[np.float32]
"""Log-mel features, shape (MELS, frames)."""

_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0  # decades below the loudest band at which quiet ones are cut off


def log_mel(audio: Samples, frames: int) -> Features:
    """The features of `audio`, zero-padded or cut at its end to `frames` hops; shape (MELS, frames), contiguous."""
    audio = np.asarray(audio[: frames * HOP], dtype=np.float32)
    spectrum = _mel_spectrum(audio, frames)
    log = np.full((MELS, frames), np.log10(_FLOOR), dtype=np.float32)
    np.log10(np.maximum(spectrum, _FLOOR), out=log[:, : spectrum.shape[1]])
    np.maximum(log, log.max() - _DYNAMIC_RANGE, out=log)
    log += 4.0
    log /= 4.0
    return log


def _mel_spectrum(audio: Samples, frames: int) -> npt.NDArray[np.float32]:
    """Power in each mel band for the frames that any of `audio` falls into; the rest, up to `frames`, are silent."""
    audible = min(frames, (audio.size + WINDOW // 2) // HOP + 1)
    # Frames are centred on their hop; the signal is mirrored at its edges, which the padding's zeros are part of.
    padded = np.zeros(frames * HOP if frames * HOP > WINDOW else WINDOW, dtype=np.float32)
    padded[: audio.size] = audio
    mirrored = np.pad(padded, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::HOP][:audible]
    spectrum = np.fft.rfft(windows * _hann(), axis=-1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.asarray(mel_filters() @ power.T, dtype=np.float32)


@cache
def _hann() -> npt.NDArray[np.float32]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


@cache
def mel_filters() -> npt.NDArray[np.float32]:
    """Triangular filters, shape (MELS, WINDOW // 2 + 1), evenly spaced in mels from 0 Hz to half the sample rate.

    The scale is that of Slaney's Auditory Toolbox (1998): linear below 1 kHz, logarithmic above. Each filter has the
    same area, so that a wide band of noise gives each the same energy.
    """
    top = _mel(np.array(SAMPLE_RATE / 2))
    edges = _hertz(np.linspace(0.0, float(top), MELS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return (np.maximum(triangles, 0.0) * 2.0 / (high - low)).astype(np.float32)


_LINEAR_TOP = 1000.0  # Hz, where the scale turns logarithmic
_HERTZ_PER_MEL = 200.0 / 3.0  # below it
_LOG_STEP = np.log(6.4) / 27.0  # above it: 27 mels to each factor of 6.4


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _LINEAR_TOP / _HERTZ_PER_MEL + np.log(np.maximum(hertz, _LINEAR_TOP) / _LINEAR_TOP) / _LOG_STEP
    return np.where(hertz < _LINEAR_TOP, hertz / _HERTZ_PER_MEL, above)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear_top = _LINEAR_TOP / _HERTZ_PER_MEL
    above = _LINEAR_TOP * np.exp(_LOG_STEP * (np.maximum(mel, linear_top) - linear_top))
    return np.where(mel < linear_top, mel * _HERTZ_PER_MEL, above)
