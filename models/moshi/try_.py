"""`python -m models try`: one conversation with a recording, offline, to hear what a checkpoint says to it."""

from __future__ import annotations

import argparse
import sys
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.worker.batch import DuplexBatch, FrameOut, SlotOptions, Step
from streaming.audio import AudioFormat, resample
from streaming.engine import Samples
from streaming.errors import EngineError, MuseError
from streaming.wire.moshi import FRAME_SAMPLES, RATE

_FRAME_MS = 80.0
_NS_PER_MS = 1e6
_SETTINGS = SlotOptions()


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `run` takes."""
    parser.add_argument("--model", required=True, metavar="REF", help="namespace/name@<commit>, or a directory")
    parser.add_argument("--in", required=True, type=Path, dest="question", metavar="FILE", help="what the model hears")
    parser.add_argument("--out", required=True, type=Path, dest="answer", metavar="FILE.wav", help="what it says")
    parser.add_argument("--extra-seconds", type=float, default=8.0, help="of silence to hear after it; default: 8")
    parser.add_argument("--instructions", default="", help="the persona, for a model that takes one")
    parser.add_argument("--voice", default="", help="the name of a recording in the model's voices/")
    parser.add_argument("--seed", type=int, default=_SETTINGS.seed)
    parser.add_argument("--text-temperature", type=float, default=_SETTINGS.text_temperature, help="0: the likeliest")
    parser.add_argument("--text-top-k", type=int, default=_SETTINGS.text_top_k, help="0: all")
    parser.add_argument("--audio-temperature", type=float, default=_SETTINGS.audio_temperature)
    parser.add_argument("--audio-top-k", type=int, default=_SETTINGS.audio_top_k)
    parser.add_argument("--device", default=None, help="cuda or cpu; default: cuda where there is one")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default=None)
    parser.add_argument("--threads", type=int, default=None, help="of the CPU; default: torch's")
    parser.add_argument("--window", type=int, default=None, help="frames that attention reaches back")


def run(options: argparse.Namespace) -> int:
    """Hold the conversation; 0 where all is well, 1 with a message where something cannot be taken."""
    try:
        _run(options, sys.stdout.write)
    except MuseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {error.name} is not installed: run this in the worker's environment\n")
        return 1
    return 0


@dataclass(slots=True)
class Times:
    """How long frames took, ms, by part: the wall clock around all of it, and the parts of the step."""

    frame: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)

    def add(self, wall: float, step: Step) -> None:
        """One frame: `wall` in ms."""
        self.frame.append(wall)
        self.encode.append(step.encode / _NS_PER_MS)
        self.model.append(step.model / _NS_PER_MS)
        self.decode.append(step.decode / _NS_PER_MS)

    def summary(self) -> str:
        """A line for each part, and the real-time factor: 1 is as fast as speech, less is faster."""
        lines = [f"{'ms a frame':>12} {'p50':>8} {'p95':>8} {'p99':>8}"]
        for name in ("encode", "model", "decode", "frame"):
            p50, p95, p99 = np.percentile(getattr(self, name), (50, 95, 99))
            lines.append(f"{name:>12} {p50:8.1f} {p95:8.1f} {p99:8.1f}")
        lines.append(f"{len(self.frame)} frames, RTF {np.mean(self.frame) / _FRAME_MS:.3f}")
        return "\n".join(lines)


def _run(options: argparse.Namespace, write: Callable[[str], object]) -> None:
    import torch

    from models.moshi.batch import MoshiBatch

    question = read_frames(options.question, extra_seconds=options.extra_seconds)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    began = time.perf_counter()
    batch = MoshiBatch(_directory(options.model), slots=1, device=device, dtype=options.dtype, window=options.window)
    batch.load()
    write(f"{batch.info.model} on {device}, ready in {time.perf_counter() - began:.1f} s\n")
    names = ("instructions", "voice", "seed", "text_temperature", "text_top_k", "audio_temperature", "audio_top_k")
    times = Times()
    batch.join(0, SlotOptions(**{name: getattr(options, name) for name in names}))
    said = converse(batch, question, times, heard=lambda out: write(out.text))
    write(f"\n\n{times.summary()}\n")
    _write_wav(options.answer, np.concatenate(said))
    write(f"{options.answer}: {len(said) * FRAME_SAMPLES / RATE:.1f} s\n")
    batch.close()


def converse(
    batch: DuplexBatch, question: Samples, times: Times, *, heard: Callable[[FrameOut], object]
) -> list[Samples]:
    """What slot 0 says to `question`, shape (frames, 1920): a frame for each, silent where the model says nothing yet.

    Raises EngineError where the model fails.
    """
    while not batch.ready(0):
        batch.prepare()
    said = []
    for frame in question:
        began = time.perf_counter()
        step = batch.step({0: frame})
        times.add((time.perf_counter() - began) * 1e3, step)
        if step.failed:
            raise EngineError(step.failed[0])
        out = step.frames[0]
        heard(out)
        said.append(out.audio if out.audio.size else np.zeros(FRAME_SAMPLES, np.float32))
    return said


def read_frames(path: Path, *, extra_seconds: float) -> Samples:
    """A recording of any rate as whole frames at 24 kHz, mono, shape (n, 1920), and silence after it.

    Raises EngineError where it cannot be read.
    """
    import sphn

    if not 0 <= extra_seconds <= 3600:
        raise EngineError(f"--extra-seconds is {extra_seconds:g}; expected 0 to 3600", code="invalid_value")
    try:
        audio, rate = sphn.read(str(path))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read as audio: {error}", code="invalid_audio") from error
    mono = np.asarray(audio, np.float32).mean(axis=0)
    if not mono.size or not np.isfinite(mono).all():
        raise EngineError(f"{path} holds no audio, or samples that are not finite", code="invalid_audio")
    heard = resample(mono, int(rate), RATE)
    total = len(heard) + int(extra_seconds * RATE)
    frames = -(-total // FRAME_SAMPLES)
    return np.pad(heard, (0, frames * FRAME_SAMPLES - len(heard))).reshape(frames, FRAME_SAMPLES)


def _directory(model: str) -> Path:
    """Where the verified weights lie. Raises EngineError."""
    from models.hub.ref import LocalRef
    from models.hub.settings import HubSettings
    from models.hub.snapshot import resolve

    path = Path(model)
    ref = LocalRef(directory=path.resolve()) if path.is_dir() else model
    return resolve(ref, settings=HubSettings()).directory


def _write_wav(path: Path, samples: Samples) -> None:
    try:
        with path.open("wb") as file, wave.open(file, "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(RATE)
            target.writeframes(AudioFormat("pcm16", RATE).encode(samples))
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}", code="invalid_value") from error
