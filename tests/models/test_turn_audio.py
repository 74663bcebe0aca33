import numpy as np

from models.turn_audio import KEPT, TurnAudio
from streaming.engine import Transcribe


def turn(number: int, level: float = 1.0, revision: int = 1) -> Transcribe:
    return Transcribe(item_id=f"item_{number}", revision=revision, audio=np.full(2, level, np.float32))


def test_the_last_turns_are_kept_each_in_its_latest_revision() -> None:
    audio = TurnAudio()
    for number in range(KEPT):
        audio.keep(turn(number))
    audio.keep(turn(0, level=0.5, revision=2))
    audio.keep(turn(KEPT))
    assert [audio.of(f"item_{number}") is not None for number in range(KEPT + 1)] == [True, False, True, True, True]
    revised = audio.of("item_0")
    assert revised is not None
    assert revised[0] == 0.5


def test_a_turn_that_was_written_has_no_audio() -> None:
    audio = TurnAudio()
    assert audio.of(None) is None
    audio.keep(turn(1))
    audio.clear()
    assert audio.of("item_1") is None
