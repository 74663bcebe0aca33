import re
from concurrent.futures import ThreadPoolExecutor

import jiwer
import numpy as np
import pytest

from benchmarks.recordings import recordings
from models.embedded.speech_to_text import Hypothesis, SpeechToText, repeats, split_at_pauses
from models.features import SAMPLE_RATE
from models.weights import Weights
from streaming.engine import Samples
from streaming.errors import EngineError


def noise(seconds: float, level: float) -> Samples:
    return np.random.default_rng(0).normal(0, level, int(seconds * SAMPLE_RATE)).astype(np.float32)


def words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], False),
        ([1, 2, 3, 4, 5, 6, 7, 8], False),
        ([5, 5, 5], False),
        ([1, 5, 5, 5, 5, 5, 2], True),
        ([1, 2, 3, 1, 2, 3, 9], False),
        ([9, *([1, 2, 3] * 5)], True),
    ],
)
def test_a_phrase_said_over_and_over_is_a_repeat(tokens: list[int], expected: bool) -> None:
    assert repeats(tokens) is expected


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    audio = noise(70, 0.1)
    for pause in (20, 45):
        audio[pause * SAMPLE_RATE : (pause + 1) * SAMPLE_RATE] *= 0.01
    pieces = list(split_at_pauses(audio, longest=28.0))
    np.testing.assert_array_equal(np.concatenate(pieces), audio)
    assert [round(piece.size / SAMPLE_RATE) for piece in pieces] == pytest.approx([20, 25, 25], abs=1)


@pytest.mark.parametrize("seconds", [0, 1, 28])
def test_short_audio_is_one_piece(seconds: int) -> None:
    audio = noise(seconds, 0.1)
    (piece,) = split_at_pauses(audio, longest=28.0)
    np.testing.assert_array_equal(piece, audio)


@pytest.fixture(scope="module", params=["whisper-tiny.en", "whisper-base"])
def model(request: pytest.FixtureRequest) -> SpeechToText:
    return load(request.param)


def load(name: str) -> SpeechToText:
    speech_to_text = SpeechToText(Weights(), model=name, workers=2)
    speech_to_text.warm_up()
    return speech_to_text


@pytest.mark.models
@pytest.mark.recordings
def test_hears_people(model: SpeechToText) -> None:
    clips = recordings(names=["beckett", "cities-1", "cities-2", "cities-7", "telephone-hello", "telephone-chicago"])
    heard = [words(model.transcribe(clip.samples)) for clip in clips]
    assert jiwer.wer([words(clip.transcript) for clip in clips], heard) < 0.12


@pytest.mark.models
@pytest.mark.recordings
def test_joins_what_is_longer_than_a_window(model: SpeechToText) -> None:
    clips = recordings(names=[f"cities-{number}" for number in range(1, 9)])
    heard = words(model.transcribe(np.concatenate([clip.samples for clip in clips])))
    assert jiwer.wer(words(" ".join(clip.transcript for clip in clips)), heard) < 0.12


@pytest.mark.models
@pytest.mark.recordings
def test_threads_share_a_model(model: SpeechToText) -> None:
    clips = [clip.samples for clip in recordings(names=["cities-1", "cities-5", "telephone-hello"])]
    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(model.transcribe, clips)) == [model.transcribe(clip) for clip in clips]


@pytest.mark.models
@pytest.mark.parametrize(
    "audio",
    [
        noise(0, 0),
        noise(0.005, 0.1),
        np.zeros(2 * SAMPLE_RATE, dtype=np.float32),
        np.full(SAMPLE_RATE, np.nan, dtype=np.float32),
        noise(0.4, 0.0005),
        noise(1, 0.005),
        noise(4, 0.05),
        noise(7, 0.3),
    ],
    ids=["empty", "too short", "zeros", "nan", "faint", "quiet", "noisy", "loud"],
)
def test_no_words_are_made_up_for_silence_and_noise(model: SpeechToText, audio: Samples) -> None:
    assert model.transcribe(audio) == ""


@pytest.mark.models
@pytest.mark.recordings
def test_a_prompt_gives_the_spelling_of_a_name() -> None:
    (clip,) = recordings(names=["telephone-chicago"])
    assert "Chicagoe" in load("whisper-base").transcribe(
        clip.samples, prompt="Chicagoe, Chicagoe. The city of Chicagoe."
    )


@pytest.mark.models
def test_a_region_is_no_other_language_and_an_unknown_one_is_refused(model: SpeechToText) -> None:
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    assert model.transcribe(silence, language="en-GB") == ""
    with pytest.raises(EngineError, match="tlh") as error:
        model.transcribe(silence, language="tlh")
    assert error.value.code == "language_unsupported"


@pytest.mark.models
def test_what_repeats_itself_is_heard_again_in_a_longer_window(
    model: SpeechToText, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[float] = []

    def hear(self: SpeechToText, audio: Samples, prompt: list[int], *, window: float) -> Hypothesis:
        windows.append(window)
        tokens = [2425] * 30 if window < 30 else [2425]
        return Hypothesis(tokens, score=-0.1, no_speech=0.0, cut_off=False)

    monkeypatch.setattr(SpeechToText, "hear", hear)
    text = model.transcribe(noise(3, 0.1))
    assert windows == [10.0, 20.0, 30.0]
    assert len(text.split()) == 1
