"""Audio in NumPy's .npy format: written for a container, and read from one, bounded and without pickle.

Reference: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import re
from math import prod

import numpy as np
import numpy.typing as npt

from streaming.engine import Samples
from streaming.errors import EngineError

MOST_HEADER = 1024
"""Bytes before the samples; `np.save` needs 128."""

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # by version
_HEADER = re.compile(
    rb"\{'descr': '([^']*)', 'fortran_order': (?:True|False), 'shape': \(((?:[0-9]+, ?)*[0-9]*)\),? *\} *\n?"
)
_DTYPES = {descr.encode(): np.dtype(descr) for descr in ("<f4", ">f4", "<f8", ">f8", "<i2", ">i2")}


class NpyError(EngineError):
    """Bytes that are not audio in an .npy file that can be taken. The message holds nothing of the file's text."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="container_failed")


def write_npy(audio: npt.NDArray[np.float32]) -> bytes:
    """The file that `np.save` writes."""
    file = io.BytesIO()
    np.save(file, audio, allow_pickle=False)
    return file.getvalue()


class NpyReader:
    """Takes a file piece by piece. What its header says is checked before any of its samples are kept.

    Samples are float32, float64 or int16 of either byte order, at most `most_samples` of them, shape (T,), (1, T) or
    (T, 1).
    """

    def __init__(self, most_samples: int) -> None:
        self._most_samples = most_samples
        self._dtype: np.dtype[np.generic] | None = None
        self._size = 0
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises NpyError as soon as they cannot be what is expected."""
        self._held += data
        if self._dtype is None:
            self._read_header()
        if self._dtype is not None and len(self._held) > self._size:
            raise NpyError("the audio is longer than its header says")

    def finish(self) -> Samples:
        """The samples, shape (T,), clipped to [-1, 1]. Raises NpyError where some are missing or not finite."""
        if self._dtype is None or len(self._held) < self._size:
            raise NpyError("the audio breaks off")
        wave = np.frombuffer(self._held, self._dtype)
        if self._dtype.kind == "i":
            return wave.astype(np.float32) / np.float32(32768)
        if not np.isfinite(wave).all():
            raise NpyError("the audio has samples that are not finite")
        return np.clip(wave, -1, 1).astype(np.float32)

    def _read_header(self) -> None:
        held = bytes(self._held[:MOST_HEADER])
        if not held.startswith(_MAGIC[: len(held)]):
            raise NpyError("the audio is not an .npy file")
        if len(held) < 12:
            return
        length_bytes = _LENGTH_BYTES.get(held[6:8])
        if length_bytes is None:
            raise NpyError("the audio is an .npy file of a version that is not known")
        start = 8 + length_bytes
        end = start + int.from_bytes(held[8:start], "little")
        if end > MOST_HEADER:
            raise NpyError(f"the audio's header is longer than {MOST_HEADER} bytes")
        if len(held) < end:
            return
        self._dtype, samples = self._parse(held[start:end])
        self._size = samples * self._dtype.itemsize
        del self._held[:end]

    def _parse(self, header: bytes) -> tuple[np.dtype[np.generic], int]:
        """The dtype, and how many samples there will be."""
        fields = _HEADER.fullmatch(header)
        if fields is None:
            raise NpyError("the audio's header is not that of one plain array")
        dtype = _DTYPES.get(fields[1])
        if dtype is None:
            raise NpyError("the audio's samples are none of float32, float64 and int16")
        shape = [int(side) for side in re.findall(rb"[0-9]+", fields[2])]
        if len(shape) not in (1, 2) or (len(shape) == 2 and 1 not in shape):
            raise NpyError("the audio's shape is none of (T,), (1, T) and (T, 1)")
        samples = prod(shape)
        if samples > self._most_samples:
            raise NpyError(f"the audio has more than {self._most_samples} samples")
        return dtype, samples
