"""Sampling for a batch whose rows each have their own temperature, top-k and seed.

Every setting is a tensor with one value a row, so that one CUDA graph serves all; nothing here waits for the device or
draws from torch's generators. A draw's randomness is a hash of the row's seed, its position and the draw's number (the
finaliser of splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), so a row's
token depends on its own logits, seed and position, and on nothing else in the batch.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from models.moshi.config import MOST_TOP_K, Sampling
from models.worker.batch import SlotOptions
from streaming.errors import PeerError

HIGHEST_TEMPERATURE = 10.0

_MASK_64 = (1 << 64) - 1
_UNIFORM_BITS = 23  # as many as leave a float32 below 1 after it was multiplied by any sum of probabilities


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit `value`."""
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def check_sampling(options: SlotOptions) -> None:
    """Raises PeerError naming the first of the sampling options that cannot be taken. None can be: see `resolve`."""
    for name in ("text_temperature", "audio_temperature"):
        value = getattr(options, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= HIGHEST_TEMPERATURE:
            raise _bad(name, value, f"a number from 0 to {HIGHEST_TEMPERATURE:g}")
    for name in ("text_top_k", "audio_top_k"):
        value = getattr(options, name)
        if value is not None and not (_is_whole(value) and 0 <= value <= MOST_TOP_K):
            raise _bad(name, value, f"a whole number from 0 (all) to {MOST_TOP_K}")
    if not _is_whole(options.seed) or not 0 <= options.seed <= _MASK_64:
        raise _bad("seed", options.seed, "a whole number from 0 to 2**64 - 1")


def resolve(options: SlotOptions, defaults: Sampling) -> Sampling:
    """The sampling options, and the checkpoint's `defaults` where there are none."""
    given = {field.name: getattr(options, field.name) for field in fields(Sampling)}
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(name: str, value: object, expected: str) -> PeerError:
    return PeerError(f"{name} is {value!r}; expected {expected}", code="invalid_value", param=name)


def seed_to_int64(seed: int) -> int:
    """A seed of 64 bits as the value to put into an int64 tensor."""
    return _signed(seed & _MASK_64)


def uniforms(seeds: Tensor, positions: Tensor, draws: int) -> Tensor:
    """Numbers in [0, 1), float32 [B, draws], for `seeds` int64 [B] at `positions` int64 [B].

    Each depends on its row's seed, position and draw number alone.
    """
    base = _mix(_mix(seeds + _GOLDEN) + positions * _GOLDEN)
    numbers = torch.arange(1, draws + 1, device=seeds.device, dtype=torch.int64)
    bits = _mix(base[:, None] + numbers * _GOLDEN)
    return _shifted(bits, 64 - _UNIFORM_BITS).to(torch.float32) * 2.0**-_UNIFORM_BITS


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shifted(value, 30)) * _MIX_1
    value = (value ^ _shifted(value, 27)) * _MIX_2
    return value ^ _shifted(value, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """`value` shifted right as if it were unsigned; torch's own shift repeats the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def sample(logits: Tensor, *, temperature: Tensor, top_k: Tensor, uniform: Tensor) -> Tensor:
    """One token a row, int64 [B], from `logits` [B, V], by inverting the cumulative distribution at `uniform`.

    `temperature` float32 [B]: 0 takes the likeliest, the first of them where several are. `top_k` int64 [B]: 0 leaves
    all; tokens as likely as the k-th are kept, so that the order of equals, which a sort does not promise, decides
    nothing. `uniform` float32 [B], in [0, 1). A row of NaN gives some token of the vocabulary.
    """
    logits = logits.float()
    scaled = logits / temperature.clamp(min=1e-6)[:, None]
    ranked = torch.topk(scaled, min(MOST_TOP_K, logits.shape[1])).values
    last = (top_k.clamp(min=1, max=ranked.shape[1]) - 1)[:, None]
    kept = (scaled >= ranked.gather(1, last)) | (top_k == 0)[:, None]
    cumulative = torch.softmax(scaled.masked_fill(~kept, -torch.inf), dim=1).cumsum(dim=1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=1).clamp(max=logits.shape[1] - 1)
    return torch.where(temperature == 0, logits.argmax(dim=1), drawn)
