"""A duplex batch without a model: each slot says what it heard, a frame later. What is slow beside it is the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from models.worker.batch import FrameOut, SlotOptions, Step
from streaming.engine import EngineInfo, Samples
from streaming.errors import PeerError
from streaming.wire.moshi import RATE, Codes

WORDS = " echo"
VOICE = "echo"

_LOUD = 0.01
"""Root mean square above which a frame is speech: -40 dBFS."""

_NOTHING: Samples = np.zeros(0, np.float32)
_NO_CODES: Codes = np.full(8, -1, np.int32)


class EchoBatch:
    """See `models.worker.batch.DuplexBatch`. It says a word wherever what it says becomes loud."""

    def __init__(self, slots: int, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._slots = slots
        self._clock = clock
        self._heard: dict[int, Samples] = {}
        self._loud: dict[int, bool] = {}  # whether what was said last was
        self._joining: list[int] = []

    @property
    def info(self) -> EngineInfo:
        """See `DuplexBatch.info`."""
        return EngineInfo(
            model="muse-echo-duplex", input_rate=RATE, output_rate=RATE, duplex=True, transcribes=False, voices=(VOICE,)
        )

    @property
    def slots(self) -> int:
        """See `DuplexBatch.slots`."""
        return self._slots

    def load(self) -> None:
        """There is nothing to load."""

    def join(self, slot: int, options: SlotOptions) -> None:
        """See `DuplexBatch.join`."""
        if options.voice not in ("", VOICE):
            raise PeerError(f"unknown voice; expected: {VOICE}", code="invalid_value", param="voice")
        self._joining.append(slot)

    def leave(self, slot: int) -> None:
        """See `DuplexBatch.leave`."""
        self._heard.pop(slot, None)
        self._loud.pop(slot, None)
        if slot in self._joining:
            self._joining.remove(slot)

    def prepare(self) -> bool:
        """See `DuplexBatch.prepare`."""
        if self._joining:
            self._heard[self._joining.pop(0)] = _NOTHING
        return bool(self._joining)

    def ready(self, slot: int) -> bool:
        """See `DuplexBatch.ready`."""
        return slot in self._heard

    def step(self, frames: Mapping[int, Samples]) -> Step:
        """See `DuplexBatch.step`."""
        began = self._clock()
        answers = {slot: self._answer(slot, frame) for slot, frame in frames.items()}
        return Step(frames=answers, failed={}, encode=0, model=self._clock() - began, decode=0)

    def close(self) -> None:
        """There is nothing to release."""

    def _answer(self, slot: int, frame: Samples) -> FrameOut:
        audio, self._heard[slot] = self._heard[slot], frame
        loud = _is_loud(audio)
        begins = loud and not self._loud.get(slot, False)
        self._loud[slot] = loud
        return FrameOut(audio=audio, text=WORDS * begins, text_token=int(begins), own=_NO_CODES, heard=_NO_CODES)


def _is_loud(audio: Samples) -> bool:
    return float(np.dot(audio, audio)) > _LOUD**2 * len(audio)
