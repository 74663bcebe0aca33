"""Audio on its way through Muse: wire formats, frames, and resampling, all mono.

Inside, audio is float32 in [-1, 1]. On the wire it is 16-bit PCM or G.711.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
import soxr

from streaming.config import PcmaFormat, PcmFormat, PcmuFormat, WireFormat
from streaming.engine import Samples
from streaming.errors import AudioFormatError

NS = 1_000_000_000

Encoding = Literal["pcm16", "pcmu", "pcma"]

# soxr works in blocks, and for these pairs its low-quality filter (16 bits, still alias-free) holds back 1 to 6 ms
# where the medium one holds back 15 to 30; for the others the medium one is the quicker.
_LOW_DELAY = {(24_000, 16_000), (16_000, 24_000), (22_050, 24_000)}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples lie in bytes, and how many there are in a second."""

    encoding: Encoding
    rate: int

    @classmethod
    def of(cls, wire: WireFormat) -> AudioFormat:
        """The format that a session's setting names."""
        match wire:
            case PcmFormat():
                return cls("pcm16", wire.rate)
            case PcmuFormat():
                return cls("pcmu", 8000)
            case PcmaFormat():
                return cls("pcma", 8000)
        assert_never(wire)

    @property
    def sample_bytes(self) -> int:
        """Bytes in one sample."""
        return 2 if self.encoding == "pcm16" else 1

    def duration_ns(self, data: bytes) -> int:
        """How long `data` plays."""
        return len(data) // self.sample_bytes * NS // self.rate

    def decode(self, data: bytes) -> Samples:
        """Bytes to samples, shape (n,). Raises AudioFormatError on a torn sample."""
        if self.encoding == "pcm16":
            if len(data) % 2:
                raise AudioFormatError(f"16-bit PCM needs an even number of bytes, got {len(data)}")
            return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32768)
        table = _expansion(self.encoding)
        return table[np.frombuffer(data, dtype=np.uint8)]

    def encode(self, samples: Samples) -> bytes:
        """Samples to bytes. What is out of range is clipped; what is not a number becomes silence."""
        clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
        pcm = np.clip(np.rint(clean * np.float32(32768)), -32768, 32767).astype("<i2")
        codes = pcm if self.encoding == "pcm16" else _compression(self.encoding)[pcm.view(np.uint16)]
        return bytes(codes.tobytes())


@cache
def _expansion(encoding: Encoding) -> Samples:
    """The value of each of the 256 G.711 codes (ITU-T G.711, tables 1 and 2), float32 in [-1, 1]."""
    code = np.arange(256, dtype=np.int32)
    if encoding == "pcmu":
        inverted = ~code & 0xFF
        exponent, mantissa = inverted >> 4 & 7, inverted & 15
        magnitude = ((mantissa << 3) + 0x84 << exponent) - 0x84
        negative = inverted & 0x80 != 0
    else:
        toggled = code ^ 0x55
        exponent, mantissa = toggled >> 4 & 7, toggled & 15
        linear = (mantissa << 4) + 8
        magnitude = np.where(exponent == 0, linear, linear + 0x100 << np.maximum(exponent - 1, 0))
        negative = toggled & 0x80 == 0
    return (np.where(negative, -magnitude, magnitude) / 32768).astype(np.float32)


@cache
def _compression(encoding: Encoding) -> npt.NDArray[np.uint8]:
    """The nearest G.711 code of each 16-bit sample, indexed by its unsigned view."""
    values = np.rint(_expansion(encoding) * 32768).astype(np.int32)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    midpoints = (ordered[1:] + ordered[:-1]) / 2
    pcm = np.arange(65536, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(midpoints, pcm, side="left")].astype(np.uint8)


class Resampler:
    """Streaming sample-rate conversion that keeps its state between chunks (libsoxr)."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate = source_rate
        self.target_rate = target_rate
        quality = "LQ" if (source_rate, target_rate) in _LOW_DELAY else "MQ"
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality=quality)
        )

    def push(self, samples: Samples) -> Samples:
        """The next chunk in; what is ready of the output, which may be nothing."""
        return self._convert(samples, last=False)

    def finish(self) -> Samples:
        """The rest of the output; the resampler starts afresh."""
        tail = self._convert(np.zeros(0, dtype=np.float32), last=True)
        if self._stream is not None:
            self._stream.clear()
        return tail

    def _convert(self, samples: Samples, *, last: bool) -> Samples:
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)


def resample(samples: Samples, source_rate: int, target_rate: int) -> Samples:
    """A whole clip at another rate."""
    resampler = Resampler(source_rate, target_rate)
    return np.concatenate([resampler.push(samples), resampler.finish()])


@dataclass(slots=True)
class Reframer:
    """Cuts chunks of any length into frames of `size` samples; at most one frame's remainder is held."""

    size: int
    _rest: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    @property
    def held(self) -> int:
        """Samples of the remainder."""
        return len(self._rest)

    def push(self, samples: Samples) -> Iterator[Samples]:
        """The frames, each of shape (size,), that `samples` completes."""
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // self.size * self.size
        self._rest = joined[whole:].copy()
        return iter(joined[:whole].reshape(-1, self.size))


class AudioBuffer:
    """The recent past of a stream: samples by absolute position, dropped from the front.

    Appending is amortised O(1); a slice is a copy.
    """

    def __init__(self) -> None:
        self._data = np.zeros(16_000, dtype=np.float32)
        self._start = 0
        self._length = 0

    @property
    def start(self) -> int:
        """Position of the oldest sample held."""
        return self._start

    @property
    def end(self) -> int:
        """Position just after the newest sample."""
        return self._start + self._length

    def append(self, samples: Samples) -> None:
        """Add samples at the end."""
        needed = self._length + len(samples)
        if needed > len(self._data):
            grown = np.zeros(max(needed, 2 * len(self._data)), dtype=np.float32)
            grown[: self._length] = self._data[: self._length]
            self._data = grown
        self._data[self._length : needed] = samples
        self._length = needed

    def slice(self, start: int, end: int) -> Samples:
        """A copy of [start, end), as far as it is held."""
        low = max(start - self._start, 0)
        high = min(max(end - self._start, low), self._length)
        return self._data[low:high].copy()

    def drop_before(self, position: int) -> None:
        """Forget what lies before `position`."""
        count = min(max(position - self._start, 0), self._length)
        if count:
            kept = self._length - count
            self._data[:kept] = self._data[count : self._length]
            self._start += count
            self._length = kept
