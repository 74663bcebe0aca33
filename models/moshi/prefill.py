"""Taking prompts in beside the batch: many frames at once through a second, one-row state of the same transformer.

Forced frames need no sampling and no depth steps, so a prompt costs a few passes of `CHUNK` columns. Each `advance` is
one pass, so that the conversations that are running get their ticks in time. A prompt that was taken in is kept, up
to a number of bytes, and the next conversation with the same persona begins at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from moshi.models.lm import LMModel
from moshi.utils.compile import CUDAGraphed
from torch import Tensor

from models.moshi.lm import FREE, TakenIn, counters, eager_on_cpu, kv_caches
from models.moshi.prompt import CHUNK, Frames


class Prefill:
    """A queue of prompts, by key, and the ones that were taken in."""

    def __init__(self, lm: LMModel, *, cache_bytes: int) -> None:
        """`lm` is streaming already, with the batch's state."""
        self._lm = lm
        self._batch_state = lm.get_streaming_state()
        lm.set_streaming_state(dict.fromkeys(self._batch_state))
        lm.streaming_forever(1)
        self._own_state = lm.get_streaming_state()
        self._rings = [cache.cache for cache in kv_caches(lm)]
        lm.set_streaming_state(self._batch_state)
        self._forward = CUDAGraphed(lm.forward_text, disable=lm.device.type != "cuda")
        self._waiting: deque[_Work] = deque()
        self._kept: OrderedDict[bytes, TakenIn] = OrderedDict()
        self._cache_bytes = cache_bytes

    def warm_up(self) -> None:
        """Run a pass often enough for its CUDA graph to be there."""
        columns = torch.zeros(1, self._lm.num_codebooks, CHUNK, dtype=torch.int64, device=self._lm.device)
        with self._active():
            for _ in range(3):
                self._reset()
                self._forward(columns)

    def keep_at_most(self, nbytes: int) -> None:
        """Keep fewer prompts than was said first, where this is less."""
        self._cache_bytes = min(self._cache_bytes, nbytes)

    def find(self, key: bytes) -> TakenIn | None:
        """The prompt, if it has been taken in and is still kept."""
        if (taken := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
        return taken

    def ask(self, key: bytes, frames: Frames) -> None:
        """Queue a prompt, unless it is queued already."""
        if all(work.key != key for work in self._waiting):
            self._waiting.append(_Work(key, _columns(self._lm, frames), torch.from_numpy(frames)))

    def withdraw(self, key: bytes) -> None:
        """Nobody waits for it any more."""
        self._waiting = deque(work for work in self._waiting if work.key != key)

    @property
    def idle(self) -> bool:
        """Whether no prompt is waiting."""
        return not self._waiting

    def advance(self) -> tuple[bytes, TakenIn] | None:
        """One pass of the prompt that has waited longest; its key and state once it has been taken in."""
        if not self._waiting:
            return None
        work = self._waiting[0]
        before_last = work.columns[:, :, :-1]
        if work.done < before_last.shape[2]:
            if not work.done:
                self._reset()
            chunk = before_last[:, :, work.done : work.done + CHUNK]
            short = CHUNK - chunk.shape[2]
            # What comes after the prompt's end is masked until it is written over, and no column sees a later one.
            chunk = torch.cat([chunk, chunk[:, :, -1:].expand(-1, -1, short)], dim=2)
            with self._active():
                self._forward(chunk.contiguous())
            self._wait()
            work.done += CHUNK
        if work.done < before_last.shape[2]:
            return None
        self._waiting.popleft()
        taken = self._taken(work)
        self._keep(work.key, taken)
        return work.key, taken

    def _taken(self, work: _Work) -> TakenIn:
        count = work.columns.shape[2] - 1
        device = self._lm.device
        return TakenIn(
            keys_values=torch.stack([ring[:, 0, :, :count] for ring in self._rings]),
            column=work.columns[0, :, -1],
            user=work.frames[1 + self._lm.dep_q :, -1].to(device),
            forced=_forced_after(self._lm, work.frames).to(device),
        )

    def _keep(self, key: bytes, taken: TakenIn) -> None:
        self._kept[key] = taken
        while self._kept and sum(one.nbytes for one in self._kept.values()) > self._cache_bytes:
            self._kept.popitem(last=False)

    def _wait(self) -> None:
        """So that a pass takes as long as it seems to, and none is in the way of a tick."""
        if self._lm.device.type == "cuda":
            torch.cuda.current_stream().synchronize()

    def _reset(self) -> None:
        for counter in counters(self._own_state):
            counter.zero_()

    @contextmanager
    def _active(self) -> Iterator[None]:
        self._lm.set_streaming_state(self._own_state)
        try:
            with eager_on_cpu(self._lm.device):
                yield
        finally:
            self._lm.set_streaming_state(self._batch_state)


@dataclass(slots=True)
class _Work:
    key: bytes
    columns: Tensor  # [1, K, P]
    frames: Tensor  # [K, P]
    done: int = 0


def _columns(lm: LMModel, frames: Frames) -> Tensor:
    """The input columns, int64 [1, K, P], of a conversation that begins with `frames`: each codebook late by its delay.

    As in LMGen, a codebook has its initial token until the column after its delay.
    """
    initial: Any = lm._get_initial_token()
    columns = initial[0].repeat(1, frames.shape[1])
    given = torch.from_numpy(frames).to(lm.device)
    for codebook, delay in enumerate(lm.delays):
        columns[codebook, delay + 1 :] = given[codebook, 1 : frames.shape[1] - delay]
    return columns[None]


def _forced_after(lm: LMModel, frames: Tensor) -> Tensor:
    """The tokens of the column after the prompt that the prompt's last frame decides: codebooks that are one late."""
    late = torch.tensor(lm.delays[: 1 + lm.dep_q]) == 1
    return torch.where(late, frames[: 1 + lm.dep_q, -1], FREE)
