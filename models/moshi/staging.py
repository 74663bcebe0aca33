"""What crosses between host and device in a tick: one copy each way, out of pinned memory where there is a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streaming.engine import Samples
from streaming.wire.moshi import FRAME_SAMPLES, Codes

_CODES = 8


class Inbox:
    """The tick's frames on their way to the device."""

    def __init__(self, slots: int, device: torch.device) -> None:
        width = FRAME_SAMPLES + 2
        self._host = torch.zeros(slots, width, pin_memory=device.type == "cuda")
        self._rows: npt.NDArray[np.float32] = self._host.numpy()
        self._device = torch.zeros(slots, width, device=device)

    def send(self, frames: Mapping[int, Samples], hearing: Iterable[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns audio, float32 [B, 1, 1920], and which slots advance and which of them hear, both bool [B]."""
        self._rows.fill(0)
        for slot, frame in frames.items():
            self._rows[slot, :FRAME_SAMPLES] = frame
            self._rows[slot, FRAME_SAMPLES] = 1
        for slot in hearing:
            self._rows[slot, FRAME_SAMPLES + 1] = 1
        self._device.copy_(self._host, non_blocking=True)
        flags = self._device[:, FRAME_SAMPLES:] > 0
        return self._device[:, None, :FRAME_SAMPLES], flags[:, 0], flags[:, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came back of a tick, by slot: audio, float32 [B, 1920], and codes, int32 [B, 8]."""

    audio: Samples
    text_tokens: list[int]
    own: Codes
    heard: Codes
    sound: list[int]


class Outbox:
    """The tick's results on their way to the host, as 32-bit words: audio, tokens, codes heard, soundness."""

    def __init__(self, slots: int, device: torch.device) -> None:
        width = FRAME_SAMPLES + 1 + 2 * _CODES + 1
        self._device = torch.zeros(slots, width, dtype=torch.int32, device=device)
        self._host = torch.zeros(slots, width, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._arrived: Any = _event() if device.type == "cuda" else None

    def send(self, audio: Tensor, tokens: Tensor, heard: Tensor, sound: Tensor) -> None:
        """Start the copy of audio [B, 1920], tokens [B, 9], codes heard [B, 8] and soundness [B]."""
        words = (tokens.int(), heard.int(), sound.int()[:, None])
        torch.cat((audio.float().contiguous().view(torch.int32), *words), dim=1, out=self._device)
        self._host.copy_(self._device, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record()

    def receive(self) -> Results:
        """What was sent, once it is there: the tick's only wait for the device."""
        if self._arrived is not None:
            self._arrived.synchronize()
        words: npt.NDArray[np.int32] = self._host.numpy().copy()
        text, own, heard, sound = FRAME_SAMPLES, FRAME_SAMPLES + 1, FRAME_SAMPLES + 1 + _CODES, -1
        return Results(
            audio=words[:, :text].view(np.float32),
            text_tokens=words[:, text].tolist(),
            own=words[:, own:heard],
            heard=words[:, heard:sound],
            sound=words[:, sound].tolist(),
        )


class Stopwatch:
    """How long the parts of a tick took on the device, without waiting for it between them."""

    def __init__(self, device: torch.device, parts: int) -> None:
        cuda = device.type == "cuda"
        self._events: list[Any] = [_event() for _ in range(parts + 1)] if cuda else []
        self._times: list[int] = []
        self._count = 0

    def start(self) -> None:
        """Begin the first part."""
        self._count = 0
        self._times.clear()
        self.split()

    def split(self) -> None:
        """End a part and begin the next."""
        if self._events:
            self._events[self._count].record()
        else:
            self._times.append(time.perf_counter_ns())
        self._count += 1

    def spans(self) -> list[int]:
        """ns that each part took, once the device has done them all."""
        if self._events:
            marks = self._events[: self._count]
            return [int(begin.elapsed_time(end) * 1e6) for begin, end in pairwise(marks)]
        return [end - begin for begin, end in pairwise(self._times)]


def _event() -> Any:
    cuda: Any = torch.cuda
    return cuda.Event(enable_timing=True)
