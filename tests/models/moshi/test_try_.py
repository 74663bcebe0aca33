"""`python -m models try` on the tiny checkpoint: words, times, and a file to listen to."""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest

from models.cli import main
from models.hub import api
from models.hub.ref import HubRef
from models.hub.settings import HubSettings
from models.moshi.try_ import Times, read_frames
from models.worker.batch import Step
from streaming.errors import EngineError

pytestmark = pytest.mark.timeout(600)  # hundreds of steps of a model, on one thread


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """One second at 44.1 kHz, in stereo."""
    path = tmp_path / "question.wav"
    tone = 8000 * np.sin(np.arange(44_100) * 0.03)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(np.stack([tone, tone], 1).astype("<i2").tobytes())
    return path


def run(model: Path, question: Path, *more: str) -> tuple[int, Path]:
    answer = question.with_name("answer.wav")
    command = ["try", "--model", str(model), "--in", str(question), "--out", str(answer), "--device", "cpu"]
    return main([*command, "--extra-seconds", "1", *more]), answer


def samples(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        return file.readframes(file.getnframes())


def test_it_answers_and_says_how_long_each_part_took(
    tiny_moshi: Path, question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = run(tiny_moshi, question, "--seed", "4")
    assert code == 0
    out = capsys.readouterr().out
    assert "moshi on cpu, ready in" in out
    assert re.search(r"\n +frame +[\d.]+ +[\d.]+ +[\d.]+\n25 frames, \d+ of them too slow .* RTF [\d.]+ ", out)
    pcm = np.frombuffer(samples(answer), "<i2")
    assert len(pcm) == 25 * 1920  # two seconds, as long as what was heard
    assert not pcm[:1920].any()
    assert pcm[1920:].any()

    first = samples(answer)
    assert samples(run(tiny_moshi, question, "--seed", "4")[1]) == first
    assert samples(run(tiny_moshi, question, "--seed", "5")[1]) != first


def test_a_persona_speaks_otherwise(tiny_personaplex: Path, question: Path) -> None:
    more = ["--window", "256", "--text-temperature", "0", "--audio-temperature", "0"]
    plain = samples(run(tiny_personaplex, question, *more)[1])
    code, answer = run(tiny_personaplex, question, *more, "--voice", "bass", "--instructions", "Be brief.")
    assert code == 0
    assert samples(answer) != plain


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--voice", "alto"], "there is no voice 'alto'; voices: none"),
        (["--text-top-k", "-3"], "text_top_k is -3; expected a whole number from 0"),
        (["--out", "/nowhere/answer.wav"], "/nowhere/answer.wav cannot be written"),
        (["--extra-seconds", "-1"], "--extra-seconds is -1; expected 0 to 3600"),
        (["--model", "kyutai/moshiko-pytorch-bf16@main"], "not pinned"),
    ],
)
def test_what_cannot_be_taken_is_an_error_that_names_it(
    tiny_moshi: Path, question: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    code, _ = run(tiny_moshi, question, *more)
    assert code == 1
    assert message in capsys.readouterr().err


def test_a_bare_name_is_pinned_and_shown_before_anything_is_fetched(
    question: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pin(repository: str, settings: HubSettings, **_: object) -> HubRef:
        asked.append(repository)
        return HubRef(repository=repository, commit="c" * 40)

    monkeypatch.setattr(api, "pin", pin)
    monkeypatch.setenv("MUSE_HUB_ENDPOINT", "https://127.0.0.1")  # which is refused before it is asked
    code, _ = run(Path("kyutai/moshiko-pytorch-bf16"), question)
    assert code == 1
    assert asked == ["kyutai/moshiko-pytorch-bf16"]
    assert capsys.readouterr().out == f"weights: kyutai/moshiko-pytorch-bf16@{'c' * 40}\n"


def test_a_frame_that_takes_twice_its_own_length_is_an_rtf_of_two() -> None:
    times = Times()
    for wall in (79.0, 241.0):
        times.add(wall, Step(frames={}, failed={}, encode=1_000_000, model=80_000_000, decode=500_000))
    summary = times.summary()
    assert "2 frames, 1 of them too slow for a live call; RTF 2.000 (below 1 is faster than speech)" in summary
    assert re.search(r"encode +1\.0", summary)
    assert re.search(r"model +80\.0", summary)
    assert re.search(r"decode +0\.5", summary)
    assert re.search(r"frame +160\.0", summary)


def test_recordings_become_whole_frames_at_24_khz(question: Path, tmp_path: Path) -> None:
    frames = read_frames(question, extra_seconds=0.5)
    assert frames.shape == (19, 1920)
    assert frames.dtype == np.float32
    assert not frames[-6:].any()
    (tmp_path / "text.wav").write_text("hello")
    for path in (tmp_path / "text.wav", tmp_path / "missing.wav"):
        with pytest.raises(EngineError, match="cannot be read as audio"):
            read_frames(path, extra_seconds=0)
