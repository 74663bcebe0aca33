"""The frames of a persona, against the convention that PersonaPlex was trained with."""

from __future__ import annotations

import numpy as np
import pytest

from models.moshi.prompt import PERSONAPLEX_TONES, prompt_frames, sine_wave, tagged
from streaming.errors import PeerError

VOICE = np.arange(40, dtype=np.int32).reshape(8, 5)


def test_the_voice_comes_first_then_the_text_with_half_a_second_of_silence_after_each() -> None:
    frames = prompt_frames([7, 8, 9], VOICE, tones=PERSONAPLEX_TONES, most=100)
    assert frames.shape == (17, 5 + 6 + 3 + 6)
    assert frames[0].tolist() == [3] * 11 + [7, 8, 9] + [3] * 6
    np.testing.assert_array_equal(frames[1:9, :5], VOICE)
    assert (frames[1:9, 5:] == PERSONAPLEX_TONES.silence[:, None]).all()
    assert (frames[9:] == PERSONAPLEX_TONES.sine[:, None]).all()


def test_without_voice_or_text_there_is_silence() -> None:
    frames = prompt_frames([], None, tones=PERSONAPLEX_TONES, most=100)
    assert frames.shape == (17, 12)
    assert (frames[0] == 3).all()


def test_a_text_that_does_not_fit_is_refused_with_what_does() -> None:
    prompt_frames([5] * 13, VOICE, tones=PERSONAPLEX_TONES, most=30)
    with pytest.raises(PeerError, match="instructions take 14 tokens; expected at most 13") as caught:
        prompt_frames([5] * 14, VOICE, tones=PERSONAPLEX_TONES, most=30)
    assert caught.value.param == "instructions"


def test_a_voice_that_does_not_fit_is_refused_with_what_does() -> None:
    with pytest.raises(PeerError, match="voice takes 5 frames; expected at most 4") as caught:
        prompt_frames([], VOICE, tones=PERSONAPLEX_TONES, most=16)
    assert caught.value.param == "voice"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You are kind.", "<system> You are kind. <system>"),
        ("  <system> You are kind. <system> ", "<system> You are kind. <system>"),
        ("<system>", "<system> <system> <system>"),
        ("<system> half", "<system> <system> half <system>"),
    ],
)
def test_instructions_get_their_tags_once(text: str, expected: str) -> None:
    assert tagged(text) == expected


def test_the_tone_is_440_hz_at_half_of_full_scale() -> None:
    tone = sine_wave(1.0)
    assert tone.dtype == np.float32
    assert int(np.abs(np.fft.rfft(tone)).argmax()) == 440
    assert tone.max() == pytest.approx(0.5, abs=1e-4)
