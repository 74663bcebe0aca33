"""Moshi's language model in lockstep: one row of the batch is one slot, and no row ever depends on another.

This stays on moshi's own `LMGen` with `support_out_of_sync`, and adds what it lacks: sampling settings, seeds and
forced tokens that each row has for itself. The text is chosen in LMGen's hook on the logits, the audio in place of its
depth step. That step is inside a CUDA graph, so whatever differs from row to row is in tensors that are made once and
only written to.

A row's frame `t` is input column `t`: its text and the codes of both voices, each codebook as late as `lm.delays` says.
Column 0 is all initial tokens, so what is heard in a conversation's first frame is never used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from moshi.models.lm import LMGen, LMModel
from moshi.utils.compile import CUDAGraphed, no_compile
from torch import Tensor

from models.moshi.config import Sampling
from models.moshi.sampling import resolve, sample, seed_to_int64, uniforms
from models.worker.batch import SlotOptions

FREE = -1
"""In forced tokens: the model chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """A prompt of P frames as a slot's state: all but its last column have been through the transformer.

    The slot's first tick runs that last column, and so chooses the conversation's first tokens by the slot's own seed.
    """

    keys_values: Tensor  # [layers, 2, heads, P - 1, dim of a head]
    column: Tensor  # [K]: the last column
    user: Tensor  # [8]: the user's codes in the last frame, which stand in for what the first tick hears
    forced: Tensor  # [1 + own codebooks]: tokens of the column after the prompt that the prompt still decides, or FREE

    @property
    def columns(self) -> int:
        """How many columns the transformer has been given."""
        return int(self.keys_values.shape[3])

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.keys_values.nbytes


class SlotLm:
    """An `LMModel` with `slots` conversations in lockstep.

    Its attention reaches back `lm.context` frames; a call may be longer than that, by any length.
    """

    def __init__(self, lm: LMModel, *, slots: int, sampling: Sampling | None = None) -> None:
        """`sampling` is what conversations have that do not say otherwise, by default Moshi's own."""
        self._defaults = sampling or Sampling()
        lm.requires_grad_(False)
        self.lm = lm
        self.slots = slots
        self.window = lm.context or 0
        self.device = lm.device
        self._gen = LMGen(lm, use_sampling=False, support_out_of_sync=True, on_text_logits_hook=self._choose_text)
        self._streaming = self._gen.streaming(slots)
        self._state: Any = self._gen.get_streaming_state()[""]
        depth = CUDAGraphed(self._choose_audio, disable=self.device.type != "cuda")
        self._state.graphed_depth = depth
        self._executes = torch.zeros(slots, dtype=torch.bool, device=self.device)
        for state in (*self._gen.get_streaming_state().values(), *lm.get_streaming_state().values()):
            state.exec_mask = self._executes  # one tensor for all, so that setting it is one copy
        self._caches = list(kv_caches(lm))

        def row(value: float, dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.full((slots, *shape), value, dtype=dtype, device=self.device)

        tokens = 1 + lm.dep_q
        self._seed = row(0, torch.int64)
        self._temperature = row(0, torch.float32, 2)  # text, audio
        self._top_k = row(0, torch.int64, 2)
        self._uniform = row(0, torch.float32, tokens)
        self._forced = row(FREE, torch.int64, tokens)
        self._forced_at = row(-1, torch.int64)
        self._forced_now = row(FREE, torch.int64, tokens)
        self._sound = row(True, torch.bool)

    @property
    def state_bytes(self) -> int:
        """Bytes of one slot's state on the device."""
        states = {"gen": self._state, **self.lm.get_streaming_state()}
        return row_bytes(states, self.slots)

    def offsets(self) -> list[int]:
        """How many columns each slot has been given. Waits for the device."""
        return [int(offset) for offset in self._state.offsets.tolist()]

    def join(self, slot: int, options: SlotOptions) -> None:
        """Begin a conversation in a slot that `leave` has emptied, or that nobody has used."""
        self._seed[slot] = seed_to_int64(options.seed)
        chosen = resolve(options, self._defaults)
        for kind, (temperature, top_k) in enumerate(
            ((chosen.text_temperature, chosen.text_top_k), (chosen.audio_temperature, chosen.audio_top_k))
        ):
            self._temperature[slot, kind] = temperature
            self._top_k[slot, kind] = top_k

    def take_in(self, slot: int, prompt: TakenIn) -> None:
        """Put a prompt into a slot that has not heard anything yet."""
        count = prompt.columns
        if count:
            rows = [cache.cache[:, slot, :, :count] for cache in self._caches]
            torch._foreach_copy_(rows, list(prompt.keys_values.unbind(0)))
        for counter in (self._gen_offsets(), *self._counters()):
            counter[slot] = count
        self._state.cache[slot, :, count % self._state.cache.shape[2]] = prompt.column
        self.force(slot, at=count, tokens=prompt.forced)

    def force(self, slot: int, *, at: int, tokens: Tensor) -> None:
        """In the step that is given column `at`, choose `tokens`, int64 [1 + own codebooks], save where FREE."""
        self._forced[slot] = tokens
        self._forced_at[slot] = at

    def leave(self, slot: int) -> None:
        """Empty the slot. Its keys and values are zeroed too: masked attention gives NaN where a NaN was left."""
        torch._foreach_zero_([cache.cache[:, slot] for cache in self._caches])
        for counter in (self._gen_offsets(), *self._counters()):
            counter[slot] = 0
        self._state.cache[slot] = self.lm.ungenerated_token_id
        for values, empty in ((self._seed, 0), (self._temperature, 0), (self._top_k, 0), (self._uniform, 0)):
            values[slot] = empty
        for values in (self._forced, self._forced_at, self._forced_now):
            values[slot] = FREE

    def step(self, heard: Tensor, executes: Tensor) -> tuple[Tensor, Tensor]:
        """Give each slot of `executes`, bool [B], the user's codes `heard`, int64 [B, 8]; the others stay as they are.

        Returns tokens, int64 [B, 1 + own codebooks], -2 in slots that sat out or whose delays have not passed, and
        whether each slot's logits were finite, bool [B], which the next step writes over.
        """
        self._executes.copy_(executes)
        with eager_on_cpu(self.device):
            tokens: Any = self._gen.step(heard[:, :, None])
        return tokens[:, :, 0], self._sound

    def close(self) -> None:
        """Give the slots' state back; the model can be batched anew."""
        self._streaming.close()

    def _choose_text(self, text_logits: Tensor) -> None:
        """LMGen's hook: leave in `text_logits`, [B, 1, 1, V], nothing but the chosen token, which LMGen then takes."""
        logits = text_logits[:, 0, 0]
        position = self._state.offsets
        self._uniform.copy_(uniforms(self._seed, position, self._uniform.shape[1]))
        self._forced_now.copy_(self._forced.masked_fill((self._forced_at != position)[:, None], FREE))
        self._sound.copy_(torch.isfinite(logits).all(dim=1))
        token = self._choose(logits, kind=0, number=0)
        text_logits.zero_().scatter_(-1, token[:, None, None, None], 1)

    def _choose_audio(self, text_token: Tensor, transformer_out: Tensor) -> Tensor:
        """In place of LMGen's depth step: the own codes, [B, dep_q], after `text_token` [B]."""
        depth: Any = self.lm.depformer
        previous, chosen = text_token, []
        with depth.streaming(self.slots):
            for codebook in range(self.lm.dep_q):
                logits = self.lm.forward_depformer(codebook, previous[:, None, None], transformer_out)[:, 0, 0]
                self._sound.logical_and_(torch.isfinite(logits).all(dim=1))
                previous = self._choose(logits, kind=1, number=1 + codebook)
                chosen.append(previous)
        return torch.stack(chosen, dim=1)

    def _choose(self, logits: Tensor, *, kind: int, number: int) -> Tensor:
        token = sample(
            logits,
            temperature=self._temperature[:, kind],
            top_k=self._top_k[:, kind],
            uniform=self._uniform[:, number],
        )
        forced = self._forced_now[:, number]
        return torch.where(forced == FREE, token, forced)

    def _gen_offsets(self) -> Tensor:
        offsets: Tensor = self._state.offsets  # LMGen makes a new one each step
        return offsets

    def _counters(self) -> Iterator[Tensor]:
        yield from counters(self.lm.get_streaming_state())


def eager_on_cpu(device: torch.device) -> AbstractContextManager[None]:
    """Keeps moshi from compiling its norms on a CPU: that needs a C++ compiler, and gains nothing there."""
    manager: AbstractContextManager[None] = nullcontext() if device.type == "cuda" else no_compile()
    return manager


def kv_caches(lm: LMModel) -> Iterator[Any]:
    """The rings of keys and values of the main transformer, layer by layer."""
    for layer in lm.transformer.layers:
        attention: Any = layer.self_attn
        yield attention._streaming_state.kv_cache


def counters(states: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors [B] that count a row's columns in the main transformer's streaming `states`."""
    for state in states.values():
        for name in ("offset", "offsets"):
            if hasattr(state, name):
                yield getattr(state, name)
        if getattr(state, "kv_cache", None) is not None:
            yield state.kv_cache.end_offset


def row_bytes(states: Mapping[str, Any], rows: int) -> int:
    """Bytes of one row of streaming `states`: of all tensors that they hold."""
    seen: dict[int, int] = {}
    for state in states.values():
        ring = getattr(state, "kv_cache", None)
        for value in (*vars(state).values(), *(vars(ring).values() if ring else ())):
            if isinstance(value, Tensor):
                seen[value.data_ptr()] = value.nbytes
    return sum(seen.values()) // rows
