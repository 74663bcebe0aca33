"""WAV files: what is read is what was recorded, whatever the recorder."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from clients.audio_files import read_wav, speech_end, write_wav
from clients.errors import AudioFileError
from streaming.engine import Samples

RATE = 24_000


def sine(seconds: float, rate: int, *, amplitude: float = 0.5, hertz: float = 440) -> Samples:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(payload: bytes, *, encoding: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    width = bits // 8
    header = struct.pack("<HHIIHH", encoding, channels, rate, rate * channels * width, channels * width, bits)
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + note + b"data" + struct.pack("<I", len(payload))
    return b"RIFF" + struct.pack("<I", len(body) + len(payload)) + body + payload


def packed(samples: Samples, bits: int) -> bytes:
    whole = np.rint(samples.astype(np.float64) * (2 ** (bits - 1) - 1)).astype("<i4")
    if bits == 8:
        return bytes((whole + 128).astype(np.uint8).tobytes())
    return bytes(whole.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes())


@pytest.mark.parametrize(("bits", "error"), [(8, 1e-2), (16, 1e-4), (24, 1e-6), (32, 1e-6)])
def test_every_width_of_pcm(tmp_path: Path, bits: int, error: float) -> None:
    samples = sine(0.1, RATE)
    path = tmp_path / "a.wav"
    path.write_bytes(wav(packed(samples, bits), bits=bits))
    np.testing.assert_allclose(read_wav(path, rate=RATE), samples, atol=error)


@pytest.mark.parametrize(("kind", "bits"), [("<f4", 32), ("<f8", 64)])
def test_floating_point(tmp_path: Path, kind: str, bits: int) -> None:
    samples = sine(0.1, RATE)
    path = tmp_path / "a.wav"
    path.write_bytes(wav(samples.astype(kind).tobytes(), encoding=3, bits=bits))
    np.testing.assert_allclose(read_wav(path, rate=RATE), samples, atol=1e-7)


def test_an_extensible_header(tmp_path: Path) -> None:
    samples = sine(0.1, RATE)
    payload = packed(samples, 16)
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    header = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, RATE * 2, 2, 16, 22, 16, 4) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(payload)) + payload
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_allclose(read_wav(path, rate=RATE), samples, atol=1e-4)


def test_channels_are_mixed_and_rates_converted(tmp_path: Path) -> None:
    left, right = sine(0.5, 44_100, amplitude=0.6), sine(0.5, 44_100, amplitude=0.2)
    path = tmp_path / "a.wav"
    path.write_bytes(wav(packed(np.stack([left, right], axis=1).ravel(), 16), channels=2, rate=44_100))
    mono = read_wav(path, rate=RATE)
    assert abs(len(mono) - RATE // 2) <= 2
    expected = sine(0.5, RATE, amplitude=0.4)[: len(mono)]
    middle = slice(2400, -2400)
    np.testing.assert_allclose(mono[: len(expected)][middle], expected[middle], atol=5e-3)


def test_a_size_beyond_the_end_of_the_file(tmp_path: Path) -> None:
    samples = sine(0.1, RATE)
    data = bytearray(wav(packed(samples, 16)))
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(data))
    np.testing.assert_allclose(read_wav(path, rate=RATE), samples, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a WAV file"),
        (b"ID3\x04" + bytes(100), "not a WAV file"),
        (b"RIFF\x04\0\0\0WAVE", "without audio"),
        (wav(b""), "holds no audio"),
        (wav(b"\0\0", channels=0), "broken header"),
        (wav(b"\0\0", rate=0), "broken header"),
        (wav(bytes(100), encoding=6, bits=8), "compressed or of an unusual kind"),
        (wav(np.full(10, np.nan, "<f4").tobytes(), encoding=3, bits=32), "not numbers"),
    ],
)
def test_what_is_not_a_recording_is_said_to_be_none(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(AudioFileError, match=message):
        read_wav(path, rate=RATE)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="No such file"):
        read_wav(tmp_path / "none.wav", rate=RATE)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    samples = sine(0.1, RATE)
    path = tmp_path / "a.wav"
    write_wav(path, samples, rate=RATE)
    np.testing.assert_allclose(read_wav(path, rate=RATE), samples, atol=1e-4)
    with pytest.raises(AudioFileError):
        write_wav(tmp_path / "none" / "a.wav", samples, rate=RATE)


def test_where_speech_ends() -> None:
    hiss = 0.001 * np.ones(RATE, np.float32)
    assert speech_end(np.concatenate([hiss, sine(1, RATE), hiss]), rate=RATE) == 2 * RATE
    assert speech_end(sine(1, RATE), rate=RATE) == RATE
    assert speech_end(np.zeros(3, np.float32), rate=RATE) == 3
