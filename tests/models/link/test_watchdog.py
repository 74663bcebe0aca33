from hypothesis import given
from hypothesis import strategies as st

from models.link.watchdog import FRAME_NS, Watchdog
from streaming.wire.moshi import FRAME_SAMPLES


def test_before_the_worker_listens_it_has_the_time_of_a_prompt_from_when_it_was_given_one() -> None:
    dog = Watchdog(prepare=100)
    assert dog.due() is None
    dog.begins(5)
    for tick in range(1000):
        dog.sent(FRAME_SAMPLES, 5 + tick * FRAME_NS)
        assert dog.due() == 5 + 100 * 10**9
    dog.listens(1000 * FRAME_NS)
    assert dog.due() == 1003 * FRAME_NS


def test_a_conversation_that_begins_with_audio_is_waited_for_from_then_on() -> None:
    dog = Watchdog(prepare=2)
    dog.sent(1, 7)
    assert dog.due() == 7 + 2 * 10**9


def test_nothing_is_expected_while_nothing_is_sent() -> None:
    dog = Watchdog()
    dog.listens(0)
    assert dog.due() is None
    dog.sent(FRAME_SAMPLES, 0)
    dog.answered(1, FRAME_NS)
    assert dog.due() is None


def test_half_a_frame_is_owed_no_answer() -> None:
    dog = Watchdog()
    dog.listens(0)
    dog.sent(FRAME_SAMPLES - 1, 0)
    assert dog.due() is None
    dog.sent(1, 9 * FRAME_NS)
    assert dog.due() == 12 * FRAME_NS


def test_more_frames_do_not_put_it_off_and_an_answer_does() -> None:
    dog = Watchdog(patience=3)
    dog.listens(0)
    for tick in range(3):
        dog.sent(FRAME_SAMPLES, tick * FRAME_NS)
    assert dog.due() == 3 * FRAME_NS
    dog.answered(1, 2 * FRAME_NS)
    assert dog.due() == 5 * FRAME_NS


def test_frames_that_the_worker_dropped_are_answered_by_the_next() -> None:
    dog = Watchdog()
    dog.listens(0)
    for _ in range(5):
        dog.sent(FRAME_SAMPLES, 0)
    dog.answered(5, FRAME_NS)
    assert dog.due() is None


@given(st.lists(st.integers(0, FRAME_NS), min_size=1, max_size=300), st.integers(1, 2))
def test_a_worker_that_answers_within_two_ticks_never_alarms(jitter: list[int], behind: int) -> None:
    dog, answers = Watchdog(), 0
    dog.listens(0)
    for tick, late in enumerate(jitter):
        now = tick * FRAME_NS + late // 2
        due = dog.due()
        assert due is None or due > now
        dog.sent(FRAME_SAMPLES, now)
        if tick >= behind:
            answers += 1
            dog.answered(answers, now + late // 4)
