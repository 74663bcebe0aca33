import json
import wave
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fetch_recordings import Clip, fetch
from benchmarks.recordings import SAMPLE_RATE, Recording, recordings, turns_with_pauses
from models.fetch import FetchError


def recording(*parts: tuple[float, float]) -> Recording:
    """Noise in parts of (seconds, level)."""
    random = np.random.default_rng(0)
    samples = np.concatenate([random.normal(0, level, int(seconds * SAMPLE_RATE)) for seconds, level in parts])
    return Recording(name="made", samples=samples.astype(np.float32), transcript="", source="test", complete=True)


def test_pauses_are_the_silences_inside() -> None:
    made = recording((0.5, 0.001), (1.0, 0.1), (0.3, 0.001), (0.5, 0.1), (0.1, 0.001), (0.5, 0.1), (1.0, 0.001))
    assert made.pauses() == [pytest.approx((1.5, 1.8), abs=0.02)]
    assert len(made.pauses(at_least=0.05)) == 2
    assert made.speech_end() == pytest.approx(2.9, abs=0.02)


def test_silence_has_neither_pauses_nor_an_end() -> None:
    assert recording((0.001, 0.0)).pauses() == []
    assert recording((0.001, 0.0)).speech_end() == 0.0


def test_says_what_to_run_where_nothing_was_fetched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.fetch_recordings"):
        recordings(tmp_path)


@pytest.fixture
def one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three."""

    def gone(*_: object) -> list[Clip]:
        raise FetchError("no apt-get here")

    def one(*_: object) -> list[Clip]:
        samples = np.arange(-500, 500, dtype="<i2")
        return [Clip(name="one", samples=samples, transcript="One.", source="test", complete=True)]

    monkeypatch.setattr("benchmarks.fetch_recordings._asterisk", gone)
    monkeypatch.setattr("benchmarks.fetch_recordings._sphinx", gone)
    monkeypatch.setattr("benchmarks.fetch_recordings._clips", one)


@pytest.mark.usefixtures("one_source")
def test_a_source_that_is_gone_leaves_the_others(tmp_path: Path) -> None:
    lines: list[str] = []
    assert fetch(tmp_path, lines.append) == 1
    assert len(lines) == 2
    (found,) = recordings(tmp_path)
    assert (found.name, found.transcript) == ("one", "One.")
    np.testing.assert_allclose(found.samples * 32768, np.arange(-500, 500))


@pytest.mark.usefixtures("one_source")
@pytest.mark.parametrize("breaks_off", ["wave.Wave_write.writeframes", "json.dumps"])
def test_what_breaks_off_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks_off: str
) -> None:
    fetch(tmp_path, lambda _: None)
    before = recordings(tmp_path)[0].samples

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(breaks_off, stop)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, lambda _: None)
    np.testing.assert_array_equal(recordings(tmp_path)[0].samples, before)


def test_fails_where_every_source_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> list[Clip]:
        raise FetchError("gone")

    for source in ("_asterisk", "_sphinx", "_clips"):
        monkeypatch.setattr(f"benchmarks.fetch_recordings.{source}", gone)
    with pytest.raises(FetchError, match="no recordings"):
        fetch(tmp_path, lambda _: None)


def test_a_wav_of_another_form_is_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(8))
    entry = {"transcript": "", "source": "test", "complete": True}
    (tmp_path / "index.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(ValueError, match="8000"):
        recordings(tmp_path)


@pytest.mark.recordings
def test_enough_turns_have_pauses_in_them() -> None:
    turns = turns_with_pauses()
    assert sum(turn.source == "moonshine-voice" for turn in turns) >= 5
    if any(turn.source == "asterisk-core-sounds-en" for turn in turns):
        assert len(turns) >= 30
    assert all(turn.complete and turn.transcript and turn.seconds < 30 for turn in turns)
