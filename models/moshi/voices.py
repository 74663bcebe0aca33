"""The voices that a checkpoint brings: recordings in its `voices/` directory, as Mimi's codes.

A voice is called by the name of its file without `.wav`, and found by looking that name up in a listing that was made
at start; a name from a client is never part of a path. PersonaPlex's own `.pt` files are pickles, and are not opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import sphn

from streaming.audio import resample
from streaming.engine import Samples
from streaming.errors import EngineError, PeerError
from streaming.wire.moshi import FRAME_SAMPLES, RATE, Codes

VoiceCodes = Codes
"""A voice, shape (8, frames)."""

LONGEST_SECONDS = 30
_LARGEST_BYTES = 64 << 20
_MOST_VOICES = 256
_LOWEST_RATE, _HIGHEST_RATE = 8_000, 192_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LOUDNESS = 10 ** (-24 / 20)  # PersonaPlex brings voices to -24 LUFS; this is the plain RMS, within 1-2 dB for speech


class Voices:
    """The voices by name."""

    def __init__(self, codes: Mapping[str, VoiceCodes], refused: Mapping[str, str]) -> None:
        self._codes = dict(sorted(codes.items()))
        self._refused = dict(refused)

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return tuple(self._codes)

    def find(self, name: str) -> VoiceCodes | None:
        """The voice's codes; None for no name. Raises PeerError for one that is not there, saying why if known."""
        if not name:
            return None
        if (codes := self._codes.get(name)) is not None:
            return codes
        reason = self._refused.get(name) or f"there is no voice {name[:64]!r}"
        known = ", ".join(self._codes) or "none"
        raise PeerError(f"{reason}; voices: {known}", code="invalid_value", param="voice")


def load_voices(directory: Path | None, encode: Callable[[Samples], VoiceCodes]) -> Voices:
    """Read every `.wav` of a directory, None where there is none, and encode it: float32 at 24 kHz to codes.

    Raises EngineError naming a recording that cannot be taken.
    """
    if directory is None:
        return Voices({}, {})
    codes: dict[str, VoiceCodes] = {}
    refused: dict[str, str] = {}
    for path in sorted(directory.iterdir())[: 4 * _MOST_VOICES]:
        if path.suffix == ".pt":
            message = f"voice {path.stem[:64]!r} is a pickle (.pt), which is never opened; give its recording as .wav"
            refused[path.stem] = refused[path.name] = message
        elif path.suffix == ".wav" and len(codes) < _MOST_VOICES:
            codes[path.stem] = encode(_recording(path, directory))
    return Voices(codes, {name: message for name, message in refused.items() if name not in codes})


def _recording(path: Path, directory: Path) -> Samples:
    """The file's audio, mono, of the loudness that the model was trained with, padded to whole frames."""
    if not _NAME.fullmatch(path.stem):
        raise _bad(path, "is not named by letters, digits, '.', '_' and '-'")
    if not path.is_file() or directory.resolve() not in path.resolve().parents:
        raise _bad(path, "is not a file of this directory")
    if path.stat().st_size > _LARGEST_BYTES:
        raise _bad(path, f"is larger than {_LARGEST_BYTES >> 20} MiB")
    mono = _decoded(path)
    level = float(np.sqrt(np.square(mono).mean()))
    if not np.isfinite(mono).all() or level == 0:
        raise _bad(path, "is silent, or not finite")
    return np.pad(mono * np.float32(_LOUDNESS / level), (0, -len(mono) % FRAME_SAMPLES))


def _decoded(path: Path) -> Samples:
    """A WAV file's audio at 24 kHz, mono. What a few bytes could make gigabytes of is refused before it is decoded.

    A name does not bind the decoder: a FLAC file of silence is a ten-thousandth of what it decodes to. Nor is it to
    resample: it takes all the memory that a rate of 1 Hz asks for, and aborts the process where there is too little.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise _bad(path, "is not a WAV file")
    try:
        audio, rate = sphn.read(str(path))
    except (OSError, ValueError) as error:
        raise _bad(path, f"cannot be read as audio: {error}") from error
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise _bad(path, f"has {rate} samples a second; expected {_LOWEST_RATE} to {_HIGHEST_RATE}")
    mono = np.asarray(audio, np.float32).mean(axis=0)
    if not FRAME_SAMPLES * rate <= len(mono) * RATE <= LONGEST_SECONDS * RATE * rate:
        raise _bad(path, f"is {len(mono) / rate:.2f} s long; expected 0.08 to {LONGEST_SECONDS} s")
    return resample(mono, rate, RATE)


def _bad(path: Path, reason: str) -> EngineError:
    return EngineError(f"voice {path.name} {reason}", code="invalid_voice")
