import numpy as np
import pytest

from models.worker.batch import SlotOptions
from models.worker.echo import EchoBatch
from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.wire.moshi import FRAME_SAMPLES


def frame(level: float) -> Samples:
    return np.full(FRAME_SAMPLES, level, np.float32)


def joined(slots: int) -> EchoBatch:
    batch = EchoBatch(slots)
    batch.load()
    for slot in range(slots):
        batch.join(slot, SlotOptions())
    while batch.prepare():
        pass
    return batch


def test_each_slot_says_what_it_heard_a_frame_later() -> None:
    batch = joined(2)
    assert batch.step({0: frame(0.5), 1: frame(0)}).frames[0].audio.size == 0
    out = batch.step({0: frame(0), 1: frame(0.25)}).frames
    np.testing.assert_array_equal(out[0].audio, frame(0.5))
    np.testing.assert_array_equal(out[1].audio, frame(0))
    assert (out[0].text, out[1].text) == (" echo", "")


def test_a_slot_that_sits_out_stays_as_it_was() -> None:
    batch = joined(2)
    batch.step({0: frame(0.5), 1: frame(0.1)})
    batch.step({1: frame(0.2)})
    np.testing.assert_array_equal(batch.step({0: frame(0)}).frames[0].audio, frame(0.5))


def test_a_voice_that_it_has_not_is_refused() -> None:
    with pytest.raises(PeerError) as refused:
        EchoBatch(1).join(0, SlotOptions(voice="alto"))
    assert refused.value.param == "voice"
