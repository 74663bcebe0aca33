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


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `run` takes."""
    parser.description = (
        "Plays a recording to a speech model, prints the words that it says, writes its voice to a file of the same "
        "length, and tells how long each frame of 80 ms took. Without a GPU a tiny model shows that all is in place: "
        "`python -m models tiny DIR`, then --model DIR."
    )
    parser.add_argument(
        "--model", required=True, metavar="REF", help="namespace/name, best with @<commit>; or a directory"
    )
    parser.add_argument(
        "--in",
        required=True,
        type=Path,
        dest="question",
        metavar="FILE",
        help="what the model hears: wav, mp3, flac",
    )
    parser.add_argument("--out", required=True, type=Path, dest="answer", metavar="FILE.wav", help="what it says")
    parser.add_argument(
        "--extra-seconds", type=float, default=8.0, help="of silence after the recording, to answer in; default: 8"
    )
    parser.add_argument("--instructions", default="", help="the persona, for a model that takes one")
    parser.add_argument("--voice", default="", help="the name of a recording in the model's voices/")
    parser.add_argument("--seed", type=int, default=0, help="the same one says the same again; default: 0")
    parser.add_argument("--text-temperature", type=float, help="0: the likeliest; default: the model's own")
    parser.add_argument("--text-top-k", type=int, help="0: all")
    parser.add_argument("--audio-temperature", type=float)
    parser.add_argument("--audio-top-k", type=int)
    parser.add_argument("--device", help="cuda or cpu; default: cuda where there is one")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16 on cuda, float32 on cpu"
    )
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's")
    parser.add_argument("--window", type=int, help="frames that the model remembers; default: all it was trained on")


def run(options: argparse.Namespace) -> int:
    """Hold the conversation; 0 where all is well, 1 with a message where something cannot be taken."""
    try:
        _run(options, _say)
    except MuseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {error.name} is not installed: run this in the worker's environment\n")
        return 1
    return 0


def _say(text: str) -> None:
    """Words as they come, not line by line."""
    sys.stdout.write(text)
    sys.stdout.flush()


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
        """A line for each part, and the real-time factor of all of it."""
        lines = [f"{'ms a frame':>12} {'p50':>8} {'p95':>8} {'p99':>8}   (a frame is {_FRAME_MS:.0f} ms of speech)"]
        for name in ("encode", "model", "decode", "frame"):
            p50, p95, p99 = np.percentile(getattr(self, name), (50, 95, 99))
            lines.append(f"{name:>12} {p50:8.1f} {p95:8.1f} {p99:8.1f}")
        late = sum(wall > _FRAME_MS for wall in self.frame)
        lines.append(
            f"{len(self.frame)} frames, {late} of them too slow for a live call; "
            f"RTF {np.mean(self.frame) / _FRAME_MS:.3f} (below 1 is faster than speech)"
        )
        return "\n".join(lines)


def _run(options: argparse.Namespace, write: Callable[[str], object]) -> None:
    import torch

    from models.moshi.batch import MoshiBatch

    question = read_frames(options.question, extra_seconds=options.extra_seconds)
    if not options.answer.parent.is_dir():
        raise EngineError(f"{options.answer} cannot be written: there is no such directory", code="invalid_value")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    directory = _directory(options.model, write)
    began = time.perf_counter()
    batch = MoshiBatch(directory, slots=1, device=device, dtype=options.dtype, window=options.window)
    batch.load()
    write(f"{batch.info.model} on {device}, ready in {time.perf_counter() - began:.1f} s; it says:\n\n")
    names = ("instructions", "voice", "seed", "text_temperature", "text_top_k", "audio_temperature", "audio_top_k")
    times = Times()
    batch.join(0, SlotOptions(**{name: getattr(options, name) for name in names}))
    said = converse(batch, question, times, heard=lambda out: write(out.text))
    write(f"\n\n{times.summary()}\n")
    _write_wav(options.answer, np.concatenate(said))
    write(f"its voice: {options.answer}, {len(said) * FRAME_SAMPLES / RATE:.1f} s\n")
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


def _directory(model: str, write: Callable[[str], object]) -> Path:
    """Where the verified weights lie; what a bare name came to is written, so that it can be had again.

    Raises EngineError.
    """
    from models.hub.api import pinned
    from models.hub.cli import progress_bars
    from models.hub.ref import HubRef, LocalRef
    from models.hub.settings import read_settings
    from models.hub.snapshot import resolve

    settings, path = read_settings(), Path(model)
    ref = LocalRef(directory=path.resolve()) if path.is_dir() else pinned(model, settings)
    if isinstance(ref, HubRef):
        write(f"weights: {ref}\n")
    with progress_bars() as report:
        return resolve(ref, settings=settings, report=report).directory


def _write_wav(path: Path, samples: Samples) -> None:
    try:
        with path.open("wb") as file, wave.open(file, "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(RATE)
            target.writeframes(AudioFormat("pcm16", RATE).encode(samples))
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}", code="invalid_value") from error
