from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from moshi.models import LMGen
from moshi.utils.compile import no_compile

from models.cli import main
from models.mimi import audio_of, codes_of
from models.moshi.checkpoint import load_lm, load_mimi
from models.moshi.files import read_checkpoint
from models.moshi.tiny import write_tiny_checkpoint
from streaming.wire.moshi import FRAME_SAMPLES


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_a_seed_makes_one_checkpoint(tiny_personaplex: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        write_tiny_checkpoint(tmp_path / name, personaplex=True, seed=seed)
    assert contents(tmp_path / "same") == contents(tiny_personaplex)
    other = contents(tmp_path / "other")
    assert other.keys() == contents(tiny_personaplex).keys()
    assert other["model.safetensors"] != contents(tiny_personaplex)["model.safetensors"]


def test_it_is_small(tiny_personaplex: Path) -> None:
    assert sum(map(len, contents(tiny_personaplex).values())) < 10_000_000


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", str(tmp_path / "model"), "--personaplex"]) == 0
    assert read_checkpoint(tmp_path / "model").model_type == "personaplex"
    assert str(tmp_path / "model") in capsys.readouterr().err


def test_its_codec_tells_sounds_apart_and_speaks_at_a_speakers_loudness(tiny_moshi: Path) -> None:
    model = load_mimi(read_checkpoint(tiny_moshi), "cpu")
    noise = (0.1 * np.random.default_rng(0).standard_normal(60 * FRAME_SAMPLES)).astype(np.float32)
    codes = codes_of(model, noise)
    assert min(len(set(book)) for book in codes.tolist()) > 20
    audio = audio_of(model, codes)
    assert 0.05 < np.sqrt(np.mean(audio**2)) < 0.2
    silence = codes_of(model, np.zeros(10 * FRAME_SAMPLES, np.float32))
    assert not np.array_equal(silence, codes[:, :10])


def test_its_conversation_varies(tiny_moshi: Path) -> None:
    torch.manual_seed(0)
    generator = LMGen(load_lm(read_checkpoint(tiny_moshi), device="cpu"), support_out_of_sync=True)
    with torch.no_grad(), no_compile(), generator.streaming(1):
        said = [generator.step(torch.zeros(1, 8, 1, dtype=torch.long)) for _ in range(40)]
    tokens = torch.cat([frame for frame in said[2:] if frame is not None], dim=-1)[0]
    assert min(len(stream.unique()) for stream in tokens) > 10


def test_its_voices_are_recordings_of_24_khz(tiny_personaplex: Path) -> None:
    voices = sorted((tiny_personaplex / "voices").iterdir())
    assert [voice.name for voice in voices] == ["alto.wav", "bass.wav"]
    for voice in voices:
        with wave.open(str(voice)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
            audio = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert len(audio) % FRAME_SAMPLES == 0
        assert 3_000 < np.abs(audio).max() < 32_767
