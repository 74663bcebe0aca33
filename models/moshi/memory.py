"""What of the device's memory a number of slots with a window takes, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from streaming.errors import EngineError

_KEPT_FREE = 1 << 30
"""For what a tick works in, and CUDA's graphs."""


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a CUDA device, torch's own reserves among them; None on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def frame_bytes(lm: Any) -> int:
    """Bytes of the keys and values that one frame of one conversation leaves in the main transformer."""
    return sum(_layer_bytes(layer.self_attn) for layer in lm.transformer.layers)


def check_room(free: int | None, *, slots: int, window: int, per_frame: int, per_slot: int) -> None:
    """Raises EngineError, which says what would fit, where `free` bytes have no room for the slots' keys and values.

    `per_frame`: see `frame_bytes`. `per_slot`: bytes that each slot has taken already. Prompts are taken in beside the
    batch, in one ring more. None is a device whose room is not known.
    """
    if free is None:
        return
    ring, room = window * per_frame, max(0, free - _KEPT_FREE)
    needed = (slots + 1) * ring
    if needed <= room:
        return
    fewer = max(0, (room + slots * per_slot - ring) // (ring + per_slot))
    shorter = room // ((slots + 1) * per_frame)
    fitting = [f"{fewer} slots"] * (fewer > 0) + [f"a window of {shorter} frames"] * (shorter > 0)
    raise EngineError(
        f"{slots} slots with a window of {window} frames need {needed / 1e9:.1f} GB beside the weights, of which "
        f"{room / 1e9:.1f} GB are free; {' or '.join(fitting) or 'nothing of use'} would fit",
        code="out_of_memory",
    )


@contextmanager
def memory_named(what: str) -> Iterator[None]:
    """Raises EngineError where the device has no room for `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(f"the device has no memory for {what}", code="out_of_memory") from error


def _layer_bytes(attention: Any) -> int:
    width = attention.embed_dim // attention.num_heads * (attention.num_heads // attention.kv_repeat)
    return int(2 * width * attention.in_projs[0].weight.dtype.itemsize)
