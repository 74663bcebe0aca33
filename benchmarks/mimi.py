"""What Mimi alone costs a tick: every slot encodes a frame of 80 ms and decodes one.

The published Mimi's shape with random weights, which cost what trained ones do. On CUDA where there is one; else on one
thread of the CPU. Runs in the worker's environment: `.venv-moshi/bin/python -m benchmarks mimi`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel

from models.mimi import MimiBatch
from models.moshi.config import HEARD_CODEBOOKS, MimiConfig
from models.moshi.lm import row_bytes
from streaming.wire.moshi import FRAME_SAMPLES

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Setting:
    device: str
    slots: tuple[int, ...]
    ticks: int


ON_CUDA = Setting("cuda", (1, 8, 16, 32, 64, 96, 128), 300)
ON_CPU = Setting("cpu", (1, 2, 4, 8), 40)


@dataclass(frozen=True)
class Measured:
    """Milliseconds, tick by tick and for a slot that begins anew, and the memory of a slot's streams in bytes."""

    encode: list[float]
    decode: list[float]
    reset: list[float]
    slot_bytes: int


def real_shape(device: str) -> MimiModel:
    """The published Mimi with random weights."""
    torch.manual_seed(0)
    model = loaders.get_mimi(None, MimiConfig().document(), device=device, num_codebooks=HEARD_CODEBOOKS)
    for name, tensor in model.named_buffers():
        if name.endswith("embedding_sum"):
            tensor.normal_()
    return model.requires_grad_(False)


def measure(setting: Setting, slots: int) -> Measured:
    """Times of `setting.ticks` ticks of a batch in which every slot takes part."""
    model = real_shape(setting.device)
    batch = MimiBatch(model, slots)
    everyone = torch.ones(slots, dtype=torch.bool)
    encode, decode = [], []
    for _ in range(setting.ticks):
        audio = 0.1 * torch.randn(slots, 1, FRAME_SAMPLES)
        began = _now(setting.device)
        codes = batch.encode(audio, everyone)
        encoded = _now(setting.device)
        batch.decode(codes, everyone)
        encode.append((encoded - began) * 1000)
        decode.append((_now(setting.device) - encoded) * 1000)
    reset = []
    for tick in range(setting.ticks):
        began = _now(setting.device)
        batch.reset(torch.arange(slots) == tick % slots)
        reset.append((_now(setting.device) - began) * 1000)
    return Measured(encode, decode, reset, row_bytes(model.get_streaming_state(), slots))


def table() -> str:
    """The benchmark's table, in Markdown."""
    threads = torch.get_num_threads()
    setting = ON_CUDA if torch.cuda.is_available() else ON_CPU
    torch.set_num_threads(1)
    try:
        rows = [_row(slots, measure(setting, slots)) for slots in setting.slots]
    finally:
        torch.set_num_threads(threads)
    where = torch.cuda.get_device_name() if setting.device == "cuda" else "one CPU thread"
    return "\n".join(
        (
            f"| Mimi on {where}, slots | encode p50 / p95 / p99, ms | decode p50 / p95 / p99, ms "
            "| both p99, ms | reset of a slot p50, ms | a slot's streams, MiB |",
            "|---|---|---|---|---|---|",
            *rows,
        )
    )


def _row(slots: int, measured: Measured) -> str:
    both = np.add(measured.encode, measured.decode)
    return (
        f"| {slots} | {_percentiles(measured.encode)} | {_percentiles(measured.decode)} "
        f"| {np.percentile(both, 99):.1f} | {np.percentile(measured.reset, 50):.2f} "
        f"| {measured.slot_bytes / MEBIBYTE:.1f} |"
    )


def _percentiles(times: list[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in np.percentile(times, (50, 95, 99)))


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    print(table())
