import itertools

import pytest

from streaming.barge_in import (
    BARGE_IN,
    BargeInRule,
    Effect,
    Floor,
    Judgement,
    Overlap,
    OverlapJudge,
    is_backchannel,
)
from streaming.core import MS

RULE = BargeInRule()
FRAME = 32 * MS


class Speech:
    """Feeds a judge with frames, 32 ms apart."""

    def __init__(self) -> None:
        self.judge = OverlapJudge(RULE, heard_at=0)
        self.now = 0

    def feed(self, pattern: str) -> list[Judgement]:
        """`x` is a frame of voice, `.` one of silence."""
        judgements = []
        for frame in pattern:
            self.now += FRAME
            judgements.append(self.judge.hear(voice=frame == "x", now=self.now))
        return [judgement for judgement in judgements if judgement is not Judgement.WAIT]


def test_the_table_is_total() -> None:
    assert set(BARGE_IN) == set(itertools.product(Floor, Overlap))


def test_a_reply_is_ducked_and_restored_in_pairs() -> None:
    for (floor, _signal), (after, effect) in BARGE_IN.items():
        assert (effect is Effect.DUCK) == (floor is not Floor.DUCKED and after is Floor.DUCKED)
        assert (effect in (Effect.RESTORE, Effect.YIELD, Effect.STOP)) >= (
            floor is Floor.DUCKED and after is not Floor.DUCKED
        )


@pytest.mark.parametrize("text", ["", "Mm-hmm.", "mhm", "Yeah.", "Yeah, right.", "uh-huh", "Okay, okay!", "Hmm..."])
def test_listening_noises_are_backchannels(text: str) -> None:
    assert is_backchannel(text)


@pytest.mark.parametrize(
    "text", ["Stop.", "No.", "Wait", "Yeah but what about tomorrow?", "okay stop", "What?", "yes yes yes yes"]
)
def test_words_with_something_to_say_are_not(text: str) -> None:
    assert not is_backchannel(text)


def test_a_cough_is_dismissed_at_its_end() -> None:
    assert Speech().feed("xxxx......") == [Judgement.DISMISS]


def test_a_short_word_is_asked_about_and_stops_the_reply() -> None:
    speech = Speech()
    assert speech.feed("xxxxxxxxx......") == [Judgement.ASK]
    assert speech.judge.words("Stop.") is Judgement.INTERRUPT


def test_an_mm_hmm_is_asked_about_and_dismissed() -> None:
    speech = Speech()
    assert speech.feed("xxxxxxxxx......") == [Judgement.ASK]
    assert speech.judge.words("Mm-hmm.") is Judgement.DISMISS


def test_a_long_start_is_asked_about_while_it_goes_on() -> None:
    speech = Speech()
    assert speech.feed("x" * 13) == [Judgement.ASK]
    assert speech.judge.words("Yeah, I") is Judgement.INTERRUPT


def test_a_backchannel_that_goes_on_is_asked_about_again_at_its_end() -> None:
    speech = Speech()
    assert speech.feed("x" * 13) == [Judgement.ASK]
    assert speech.judge.words("Yeah") is Judgement.WAIT
    assert speech.feed("xxx......") == [Judgement.ASK]
    assert speech.judge.words("Yeah, right") is Judgement.DISMISS


def test_words_of_speech_that_goes_on_dismiss_nothing() -> None:
    speech = Speech()
    assert speech.feed("xxxxxxxxx......") == [Judgement.ASK]
    assert speech.feed("x") == []
    assert speech.judge.words("Okay") is Judgement.WAIT
    assert speech.feed("......") == [Judgement.ASK]
    assert speech.judge.words("Okay") is Judgement.DISMISS


@pytest.mark.parametrize(
    ("pattern", "judgement"),
    [
        ("xxxxxxxxx......", Judgement.DISMISS),
        ("x" * 14, Judgement.INTERRUPT),
        ("x" * 14 + "......", Judgement.INTERRUPT),
    ],
)
def test_words_that_could_not_be_found_leave_it_to_the_length(pattern: str, judgement: Judgement) -> None:
    speech = Speech()
    assert speech.feed(pattern)[0] is Judgement.ASK
    assert speech.judge.words(None) is judgement


@pytest.mark.parametrize(("pattern", "judgement"), [("xxx", Judgement.DISMISS), ("xxxxxxxx", Judgement.ASK)])
def test_a_microphone_that_stops_is_silent_after_a_while(pattern: str, judgement: Judgement) -> None:
    speech = Speech()
    assert speech.feed(pattern) == []
    stalled = speech.judge.timeout()
    assert stalled == speech.now + RULE.stall
    assert speech.judge.judge(now=stalled - 1) is Judgement.WAIT
    assert speech.judge.judge(now=stalled) is judgement
    if judgement is Judgement.ASK:
        assert speech.judge.timeout() == stalled + RULE.patience


def test_speech_that_lasts_interrupts_whatever_it_says() -> None:
    assert Speech().feed("x" * 30) == [Judgement.ASK, Judgement.INTERRUPT]


@pytest.mark.parametrize(("pattern", "judgement"), [("xxxxxxxxx", Judgement.DISMISS), ("x" * 20, Judgement.INTERRUPT)])
def test_words_that_never_come_are_not_waited_for(pattern: str, judgement: Judgement) -> None:
    speech = Speech()
    speech.feed(pattern + "......")
    timeout = speech.judge.timeout()
    assert timeout is not None
    assert speech.judge.judge(now=timeout - 1) is Judgement.WAIT
    assert speech.judge.judge(now=timeout) is judgement
