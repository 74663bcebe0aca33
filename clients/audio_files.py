"""WAV files in and out: any rate, any number of channels, 8 to 32 bits or floating point; mono inside."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.errors import AudioFileError
from streaming.audio import AudioFormat, resample
from streaming.engine import Samples

_EXTENSIBLE = 0xFFFE  # the encoding is named later in the header: 1 is PCM, 3 is floating point
_FRAME = 0.02  # seconds over which loudness is measured
_QUIET = 10 ** (-35 / 20)  # speech this much below the loudest frame is taken for silence


def read_wav(path: Path, *, rate: int) -> Samples:
    """The recording in `path`, mixed to mono, shape (n,), float32 in [-1, 1] at `rate` Hz.

    Raises AudioFileError for a file that is missing, is not a WAV file, or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AudioFileError(f"{path}: {error.strerror}") from None
    layout, payload = _parse(data, path)
    frames = len(payload) // (layout.channels * layout.width)
    if not frames:
        raise AudioFileError(f"{path} holds no audio")
    samples = _decode(payload[: frames * layout.channels * layout.width], layout, path)
    mono = samples.reshape(frames, layout.channels).mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioFileError(f"{path} holds samples that are not numbers")
    return resample(mono, layout.rate, rate)


def write_wav(path: Path, samples: Samples, *, rate: int) -> None:
    """Writes mono 16-bit PCM; what is out of range is clipped. Raises AudioFileError if the file cannot be written."""
    try:
        with path.open("wb") as file, wave.open(file, "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(rate)
            target.writeframes(AudioFormat("pcm16", rate).encode(samples))
    except OSError as error:
        raise AudioFileError(f"{path}: {error.strerror}") from None


def speech_end(samples: Samples, *, rate: int) -> int:
    """The sample after which nothing comes close to the recording's loudest: where its speech ends."""
    size = int(rate * _FRAME)
    frames = len(samples) // size
    if not frames:
        return len(samples)
    loudness = np.sqrt(np.square(samples[: frames * size].reshape(frames, size)).mean(axis=1))
    loud = np.flatnonzero(loudness >= loudness.max() * _QUIET)
    return (int(loud[-1]) + 1) * size


@dataclass(frozen=True, slots=True)
class _Layout:
    encoding: int
    channels: int
    rate: int
    width: int  # bytes in one sample of one channel


def _parse(data: bytes, path: Path) -> tuple[_Layout, bytes]:
    """The `fmt ` and `data` chunks (Multimedia Programming Interface and Data Specifications 1.0, 1991)."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise AudioFileError(f"{path} is not a WAV file")
    layout = None
    for name, body in _chunks(data):
        if name == b"fmt ":
            layout = _layout(body, path)
        elif name == b"data" and layout is not None:
            return layout, body
    raise AudioFileError(f"{path} is a WAV file without audio")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        yield name, data[position : position + size]  # recorders that stream leave a size beyond the file's end
        position += size + size % 2


def _layout(body: bytes, path: Path) -> _Layout:
    if len(body) < 16:
        raise AudioFileError(f"{path} has a broken header")
    encoding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if encoding == _EXTENSIBLE and len(body) >= 26:
        (encoding,) = struct.unpack_from("<H", body, 24)
    if not 1 <= channels <= 64 or not 1000 <= rate <= 768_000:
        raise AudioFileError(f"{path} has a broken header")
    return _Layout(encoding, channels, rate, (bits + 7) // 8)


def _decode(payload: bytes, layout: _Layout, path: Path) -> Samples:
    match layout.encoding, layout.width:
        case 1, 1:
            return np.frombuffer(payload, np.uint8).astype(np.float32) / np.float32(128) - np.float32(1)
        case 1, 2 | 4:
            whole = np.frombuffer(payload, f"<i{layout.width}").astype(np.float32)
        case 1, 3:
            padded = np.zeros((len(payload) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(payload, np.uint8).reshape(-1, 3)
            whole = padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**8)
        case 3, 4 | 8:
            return np.frombuffer(payload, f"<f{layout.width}").astype(np.float32)
        case _:
            raise AudioFileError(f"{path} is compressed or of an unusual kind; convert it to 16-bit PCM")
    return whole / np.float32(2 ** (8 * layout.width - 1))
