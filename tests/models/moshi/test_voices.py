"""Voices out of a checkpoint's directory: by name only, recordings only."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from models.moshi.voices import load_voices
from streaming.engine import Samples
from streaming.errors import EngineError, PeerError
from streaming.wire.moshi import Codes


def write(path: Path, audio: Samples, rate: int = 24_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((audio * 32_767).astype("<i2").tobytes())


def tone(seconds: float, rate: int = 24_000) -> Samples:
    return (0.3 * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * 200 / rate)).astype(np.float32)


class Encoder:
    """Stands for Mimi: one column a frame, and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Samples] = []

    def __call__(self, audio: Samples) -> Codes:
        self.given.append(audio)
        assert audio.size % 1920 == 0
        return np.full((8, audio.size // 1920), len(self.given), np.int32)


def test_recordings_are_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "bass.wav", tone(0.5))
    write(tmp_path / "alto.wav", tone(1.0, 16_000), rate=16_000)
    (tmp_path / "readme.txt").write_text("not a voice")
    encoder = Encoder()
    voices = load_voices(tmp_path, encoder)
    assert voices.names == ("alto", "bass")
    assert voices.find("") is None
    alto, bass = voices.find("alto"), voices.find("bass")
    assert alto is not None
    assert bass is not None
    assert (alto.shape, bass.shape) == ((8, 13), (8, 7))
    for audio, seconds in zip(encoder.given, (1.0, 0.5), strict=True):
        spoken = audio[: int(24_000 * seconds)]
        assert 20 * np.log10(np.sqrt(np.square(spoken).mean())) == pytest.approx(-24, abs=0.2)


@pytest.mark.parametrize("name", ["tenor", "../alto", "/etc/passwd", "alto.wav", "alto\0", "", "."])
def test_a_name_that_is_not_listed_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    write(tmp_path / "alto.wav", tone(0.5))
    voices = load_voices(tmp_path, Encoder())
    if not name:
        assert voices.find(name) is None
        return
    with pytest.raises(PeerError, match="voices: alto") as caught:
        voices.find(name)
    assert caught.value.param == "voice"


def test_pickles_are_refused_by_name_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "NATF0.pt").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    voices = load_voices(tmp_path, Encoder())
    assert voices.names == ()
    for name in ("NATF0", "NATF0.pt"):
        with pytest.raises(PeerError, match=r"'NATF0' is a pickle \(\.pt\), which is never opened; give .* as \.wav"):
            voices.find(name)


def test_a_recording_is_preferred_to_the_pickle_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "alto.pt").write_bytes(b"")
    write(tmp_path / "alto.wav", tone(0.5))
    assert load_voices(tmp_path, Encoder()).find("alto") is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not audio at all", "is not a WAV file"),
        (b"fLaC\0\0\0\x22" + bytes(100), "is not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "cannot be read as audio"),
        (tone(31), "is 31.00 s long; expected 0.08 to 30 s"),
        (tone(0.01), "is 0.01 s long"),
        (np.zeros(24_000, np.float32), "is silent"),
    ],
)
def test_a_recording_that_cannot_be_taken_is_named(tmp_path: Path, content: bytes | Samples, message: str) -> None:
    path = tmp_path / "alto.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(path, content)
    with pytest.raises(EngineError, match=rf"^voice alto\.wav {message}"):
        load_voices(tmp_path, Encoder())


@pytest.mark.parametrize("rate", [1, 7_999, 192_001])
def test_a_rate_that_no_voice_has_is_refused_before_it_is_resampled(tmp_path: Path, rate: int) -> None:
    write(tmp_path / "alto.wav", tone(30), rate=rate)
    with pytest.raises(EngineError, match=rf"^voice alto\.wav has {rate} samples a second; expected 8000 to 192000"):
        load_voices(tmp_path, Encoder())


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_a_voice_of_another_rate_is_brought_to_24_khz(tmp_path: Path, rate: int) -> None:
    write(tmp_path / "alto.wav", tone(0.8, rate), rate=rate)
    encoder = Encoder()
    load_voices(tmp_path, encoder)
    spectrum = np.abs(np.fft.rfft(encoder.given[0][:19_200]))
    assert np.argmax(spectrum) * 24_000 / 19_200 == pytest.approx(200, abs=2)


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside.wav", tmp_path / "voices"
    inside.mkdir()
    write(outside, tone(0.5))
    (inside / "alto.wav").symlink_to(outside)
    with pytest.raises(EngineError, match=r"voice alto\.wav is not a file of this directory"):
        load_voices(inside, Encoder())
    (inside / "alto.wav").unlink()
    shutil.copy(outside, inside / "sp ace.wav")
    with pytest.raises(EngineError, match=r"voice sp ace\.wav is not named by"):
        load_voices(inside, Encoder())


def test_no_directory_is_no_voices() -> None:
    assert load_voices(None, Encoder()).names == ()
