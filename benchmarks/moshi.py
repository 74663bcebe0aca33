"""What a tick of Moshi costs, by how many conversations it holds, with Mimi's both halves in it.

On CUDA where there is one: the shape of Moshi 7B with random weights, which cost what trained ones do, made on the
device in bfloat16. Else on one thread of the CPU: the tiny checkpoint, to see what there is beside the model. Runs in
the worker's environment: `.venv-moshi/bin/python -m benchmarks moshi`, or `-m benchmarks.moshi --help` for options.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from moshi.models.lm import LMGen, LMModel
from moshi.modules.transformer import set_attention_context
from moshi.utils.compile import no_compile

from benchmarks.mimi import real_shape
from models.moshi.batch import MoshiBatch
from models.moshi.checkpoint import load_lm, load_mimi
from models.moshi.config import LmConfig, MimiConfig, Sampling
from models.moshi.files import Checkpoint, load_tokenizer, read_checkpoint
from models.moshi.tiny import write_tiny_checkpoint
from models.worker.batch import SlotOptions
from streaming.engine import Samples
from streaming.errors import EngineError
from streaming.wire.moshi import FRAME_SAMPLES

DEADLINE_MS = 80.0
_NS_PER_MS = 1e6
_CHURN = 4  # one conversation ends and another begins every so many ticks
_PERSONA = "You are a wise and friendly teacher. Answer questions or provide advice in a clear and engaging way."


@dataclass(frozen=True)
class Setting:
    """What is measured. Windows are in frames. `seconds`: after so many no larger batch is begun."""

    device: str
    slots: tuple[int, ...]
    ticks: int
    window: int
    stock_window: int
    seconds: float


ON_CUDA = Setting("cuda", (1, 8, 16, 32, 48, 64, 72, 80, 96), 250, 750, LmConfig().context, 420.0)
ON_CPU = Setting("cpu", (1, 4, 8, 16), 60, 256, 64, 120.0)


@dataclass
class Measured:
    """Milliseconds, each a list with one value a tick, join or piece."""

    slots: int
    bytes_per_session: int = 0
    tick: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    churned_tick: list[float] = field(default_factory=list)
    join: list[float] = field(default_factory=list)
    piece: list[float] = field(default_factory=list)
    failed: int = 0


@dataclass(frozen=True)
class Parts:
    """What a batch is made of; the codec is made anew for each, because a batch takes it over."""

    checkpoint: Checkpoint
    lm: LMModel
    mimi: Callable[[], Any]
    tokenizer: Any


class _Pieces:
    """Stands for the text tokenizer, whose work does not depend on the words."""

    def vocab_size(self) -> int:
        return 32_000

    def IsByte(self, token: int) -> bool:  # noqa: ARG002, N802
        return False

    IsControl = IsUnknown = IsByte

    def IdToPiece(self, token: int) -> str:  # noqa: N802
        return f"▁{token}"

    def EncodeAsIds(self, text: str) -> list[int]:  # noqa: N802
        return [4 + crc32(word.encode()) % 30_000 for word in text.split()]


def random_7b(window: int) -> Parts:
    """Moshi 7B's shape on the GPU, with random weights, as PersonaPlex is prompted."""
    torch.manual_seed(0)
    config = LmConfig(context=window)
    lm = LMModel(device="cuda", dtype=torch.bfloat16, **config.kwargs()).eval().requires_grad_(False)
    nowhere = Path("random")
    checkpoint = Checkpoint(
        model_type="personaplex",
        lm_weights=nowhere,
        mimi_weights=nowhere,
        text_tokenizer=nowhere,
        voices=None,
        lm=config,
        mimi=MimiConfig(),
        sampling=Sampling(),
    )
    return Parts(checkpoint, lm, lambda: real_shape("cuda"), _Pieces())


def tiny(window: int, directory: Path) -> Parts:
    """The tiny checkpoint with a persona."""
    write_tiny_checkpoint(directory, personaplex=True)
    checkpoint = replace(read_checkpoint(directory), voices=None)
    lm = load_lm(checkpoint, device="cpu", window=window)
    return Parts(checkpoint, lm, lambda: load_mimi(checkpoint, "cpu"), load_tokenizer(checkpoint))


def measure(parts: Parts, setting: Setting, slots: int) -> Measured:
    """A batch of `slots` with all of them taken: ticks in peace, then with conversations that come and go."""
    measured = Measured(slots)
    batch = MoshiBatch(Path("unused"), slots=slots, device=setting.device)
    batch.load_models(parts.checkpoint, lm=parts.lm, mimi=parts.mimi(), tokenizer=parts.tokenizer)
    try:
        measured.bytes_per_session = batch.bytes_per_session
        for slot in range(slots):
            batch.join(slot, SlotOptions(seed=slot, instructions=_PERSONA))
        while _timed(batch.prepare, measured.piece):
            pass
        frames = _frames(slots)
        for _ in range(setting.ticks):
            _tick(batch, next(frames), measured, measured.tick)
        for number in range(setting.ticks):
            if number % _CHURN == 0:
                seed = number // _CHURN
                _timed(partial(_replace, batch, seed % slots, seed), measured.join)
            _timed(batch.prepare, measured.piece)
            ready = {slot: frame for slot, frame in next(frames).items() if batch.ready(slot)}
            if ready:
                _tick(batch, ready, measured, measured.churned_tick)
    finally:
        batch.close()
    return measured


def stock(parts: Parts, setting: Setting) -> list[float]:
    """Milliseconds of moshi's own server loop with its one conversation, at the window that it allocates."""
    set_attention_context(parts.lm.transformer, setting.stock_window)
    codec, gen = parts.mimi(), LMGen(parts.lm)
    times: list[float] = []
    frames = _frames(1)
    compile_or_not = torch.no_grad() if setting.device == "cuda" else no_compile()
    try:
        with torch.no_grad(), codec.streaming(1), gen.streaming(1), compile_or_not:
            for _ in range(setting.ticks):
                began = time.perf_counter()
                chunk = torch.from_numpy(next(frames)[0]).to(setting.device)[None, None]
                tokens = gen.step(codec.encode(chunk))
                if tokens is not None:
                    codec.decode(tokens[:, 1:9]).cpu()
                    tokens[0, 0, 0].item()
                times.append((time.perf_counter() - began) * 1e3)
    finally:
        set_attention_context(parts.lm.transformer, setting.window)
    return times[len(times) // 5 :]  # its first steps compile and capture


def run(setting: Setting) -> Iterator[str]:
    """The table's lines, as they are known, and last a JSON object with every figure of it."""
    began = time.monotonic()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"setting": asdict(setting), "rows": []}
    with tempfile.TemporaryDirectory() as directory:
        cuda = setting.device == "cuda"
        parts = random_7b(setting.window) if cuda else tiny(setting.window, Path(directory))
        where = f"7B shape, bf16, {torch.cuda.get_device_name()}" if cuda else "tiny shape, one CPU thread"
        yield (
            f"| sessions ({where}, window {setting.window}) | tick p50 / p95 / p99, ms | encode, model, decode p50, ms "
            "| beside the model p50, ms | p99 with joins and leaves, ms | join and leave p99, ms "
            "| piece of a prompt p99, ms | MB a session |"
        )
        yield "|---|---|---|---|---|---|---|---|"
        times = stock(parts, setting)
        figures["stock"] = _spread(times)
        yield f"| stock moshi, 1 | {_shown(times)} | | | | | | |"
        held = 0
        for slots in setting.slots:
            if time.monotonic() - began > setting.seconds:
                yield f"| {slots} and more | not begun: {setting.seconds:.0f} s have passed | | | | | | |"
                break
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
            try:
                measured = measure(parts, setting, slots)
            except EngineError as error:
                yield f"| {slots} | {error} | | | | | | |"
                break
            figures["rows"].append(_figures(measured))
            yield _row(measured)
            worst = max(_percentile(measured.tick, 99), _percentile(measured.churned_tick, 99))
            held = slots if worst < DEADLINE_MS and not measured.failed else held
            if worst > 2 * DEADLINE_MS:
                break
    torch.set_num_threads(threads)
    figures["held"] = held
    yield f"\nSessions held with p99 < {DEADLINE_MS:.0f} ms, joins and leaves included: {held}\n"
    yield json.dumps(figures)


def table() -> str:
    """The benchmark's table, in Markdown, then its figures as JSON."""
    return "\n".join(run(ON_CUDA if torch.cuda.is_available() else ON_CPU))


def main(arguments: Sequence[str] | None = None) -> None:
    default = ON_CUDA if torch.cuda.is_available() else ON_CPU
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moshi", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default.device)
    parser.add_argument("--slots", type=int, nargs="+", help=f"on this machine by default: {default.slots}")
    parser.add_argument("--ticks", type=int, help="in peace, and so many again with joins and leaves")
    parser.add_argument("--window", type=int, help="frames that attention reaches back")
    parser.add_argument("--seconds", type=float, help="after which no larger batch is begun")
    options = vars(parser.parse_args(arguments))
    setting = ON_CUDA if options.pop("device") == "cuda" else ON_CPU
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if "slots" in given:
        given["slots"] = tuple(given["slots"])
    for line in run(replace(setting, **given)):
        print(line, flush=True)


def _replace(batch: MoshiBatch, slot: int, seed: int) -> None:
    """End a conversation and begin another in its slot; every second one with a persona that has to be taken in."""
    batch.leave(slot)
    persona = _PERSONA if seed % 2 else f"{_PERSONA} You are called {seed}."
    batch.join(slot, SlotOptions(seed=seed, instructions=persona))


def _tick(batch: MoshiBatch, frames: dict[int, Samples], measured: Measured, walls: list[float]) -> None:
    began = time.perf_counter()
    step = batch.step(frames)
    wall = (time.perf_counter() - began) * 1e3
    walls.append(wall)
    measured.failed += len(step.failed)
    if walls is measured.tick:
        measured.encode.append(step.encode / _NS_PER_MS)
        measured.model.append(step.model / _NS_PER_MS)
        measured.decode.append(step.decode / _NS_PER_MS)
        measured.beside.append(wall - (step.encode + step.model + step.decode) / _NS_PER_MS)


def _timed(call: Callable[[], Any], times: list[float]) -> Any:
    began = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append((time.perf_counter() - began) * 1e3)
    return result


def _frames(slots: int) -> Iterator[dict[int, Samples]]:
    """Noise for every slot, a tick at a time."""
    generator = np.random.default_rng(0)
    while True:
        noise = (0.1 * generator.standard_normal((slots, FRAME_SAMPLES))).astype(np.float32)
        yield dict(enumerate(noise))


def _percentile(values: list[float], which: float) -> float:
    return float(np.percentile(values, which))


def _spread(values: list[float]) -> dict[str, float]:
    return {f"p{which}": round(_percentile(values, which), 3) for which in (50, 95, 99)} if values else {}


def _shown(values: list[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in _spread(values).values())


def _figures(measured: Measured) -> dict[str, Any]:
    return {name: _spread(value) if isinstance(value, list) else value for name, value in asdict(measured).items()}


def _row(measured: Measured) -> str:
    parts = ", ".join(f"{_percentile(part, 50):.1f}" for part in (measured.encode, measured.model, measured.decode))
    failed = f" ({measured.failed} frames failed)" if measured.failed else ""
    return (
        f"| {measured.slots}{failed} | {_shown(measured.tick)} | {parts} | {_percentile(measured.beside, 50):.2f} "
        f"| {_percentile(measured.churned_tick, 99):.1f} | {_percentile(measured.join, 99):.1f} "
        f"| {_percentile(measured.piece, 99):.1f} | {measured.bytes_per_session / 1e6:.1f} |"
    )


if __name__ == "__main__":
    main()
