"""Recordings of people, for tests and benchmarks: 16 kHz, with what was said and where they pause.

`python -m benchmarks.fetch_recordings` brings them into `.testdata/recordings`; RECORDINGS.md says whose they are.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

DIRECTORY = Path(".testdata/recordings")
SAMPLE_RATE = 16_000
INDEX = "index.json"

_BLOCK = SAMPLE_RATE // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One utterance.

    `samples` are mono float32 in [-1, 1] at SAMPLE_RATE; `transcript` is empty where there are no words (tones,
    silence); `complete` says that somebody who stops where it ends has finished the sentence.
    """

    name: str
    samples: npt.NDArray[np.float32]
    transcript: str
    source: str
    complete: bool

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples.size / SAMPLE_RATE

    def speech_end(self) -> float:
        """Where the last sound of it ends, in seconds."""
        blocks = np.flatnonzero(_audible(self.samples))
        return float(blocks[-1] + 1) / 100 if blocks.size else 0.0

    def pauses(self, *, at_least: float = 0.2) -> list[tuple[float, float]]:
        """The silences inside it, from and to, in seconds, that last at least so long."""
        blocks = np.flatnonzero(_audible(self.samples))
        gaps = np.flatnonzero(np.diff(blocks) > at_least * 100)
        return [(float(blocks[gap] + 1) / 100, float(blocks[gap + 1]) / 100) for gap in gaps]


def recordings(directory: Path = DIRECTORY, *, names: Collection[str] | None = None) -> list[Recording]:
    """All recordings that were fetched, or those named, in the order of their names.

    Raises FileNotFoundError where none were fetched, KeyError for a name that is not among them.
    """
    index_path = directory / INDEX
    if not index_path.is_file():
        raise FileNotFoundError(f"no recordings in {directory}; run `python -m benchmarks.fetch_recordings`")
    index = json.loads(index_path.read_text(encoding="utf-8"))
    return [
        Recording(name=name, samples=read_wav(directory / f"{name}.wav"), **index[name])
        for name in sorted(index if names is None else names)
    ]


def turns_with_pauses(directory: Path = DIRECTORY) -> list[Recording]:
    """Complete utterances under 30 s with at least one pause of 200 ms or more inside: for counting false cuts."""
    return [
        recording
        for recording in recordings(directory)
        if recording.complete and recording.seconds < 30 and recording.pauses()
    ]


def read_wav(path: Path) -> npt.NDArray[np.float32]:
    """The samples of a mono 16-bit WAV file at SAMPLE_RATE. Raises ValueError for any other."""
    with wave.open(str(path), "rb") as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if form != (1, 2, SAMPLE_RATE):
            raise ValueError(f"{path.name}: (channels, bytes, rate) are {form}")
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return pcm.astype(np.float32) / 32768.0


def _audible(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """For each 10 ms, whether there is sound: clearly above the recording's noise, and not far below its speech."""
    blocks = samples[: samples.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    if not blocks.size:
        return np.zeros(0, dtype=np.bool_)
    level = 10 * np.log10(np.mean(np.square(blocks), axis=1) + 1e-10)
    noise, speech = np.percentile(level, (5, 95))
    loud = level >= max(speech - 30.0, noise + 0.3 * (speech - noise))
    # A click of a single block is no speech.
    return np.convolve(loud, np.ones(3), mode="same") >= 2
