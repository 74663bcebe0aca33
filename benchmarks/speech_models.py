"""`python -m benchmarks.speech_models`: what the detectors and speech to text cost and how often they are wrong.

Runs on recordings of people (`python -m benchmarks.fetch_recordings`), each call on one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jiwer
import numpy as np

from benchmarks.recordings import Recording, recordings, turns_with_pauses
from models.embedded.speech_to_text import SpeechToText
from models.turn_detector import SmartTurn
from models.vad import Silero, SileroDetector, SileroState
from models.weights import Weights
from streaming.engine import DETECTOR_RATE, VOICE_FRAME, Samples

_NUMBERS = dict(enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=150, help="clips to find word errors and the gate's losses on")
    parser.add_argument("--model", default="whisper-tiny.en", help="speech to text: whisper-base or whisper-tiny.en")
    options = parser.parse_args()
    spoken = [clip for clip in recordings() if clip.transcript and clip.seconds < 28 and not _spelled(clip)]
    chosen = random.Random(1).sample(spoken, min(options.clips, len(spoken)))
    weights = Weights()
    speech_to_text(SpeechToText(weights, model=options.model), chosen)
    voice_activity(weights, chosen)
    turn_ends(weights, turns_with_pauses())


def speech_to_text(model: SpeechToText, clips: Sequence[Recording]) -> None:
    model.warm_up()
    (long,) = recordings(names=["cities-8"])
    for seconds in (1, 2, 4, 8):
        audio = long.samples[: seconds * DETECTOR_RATE]
        print(f"speech to text, {seconds} s: {_milliseconds(partial(model.transcribe, audio), 12)}")
    for label, group in (
        ("up to 5 words", [clip for clip in clips if len(clip.transcript.split()) <= 5]),
        ("more", [clip for clip in clips if len(clip.transcript.split()) > 5]),
    ):
        said = [_words(clip.transcript) for clip in group]
        heard = [_words(model.transcribe(clip.samples)) for clip in group]
        print(f"word error rate, {label} ({len(group)} clips): {100 * jiwer.wer(said, heard):.1f} %")
    tones = [clip for clip in recordings() if not clip.transcript]
    made_up = [clip.name for clip in tones if model.transcribe(clip.samples)]
    print(f"words made up for tones and silence: {len(made_up)} of {len(tones)} {made_up or ''}")


def voice_activity(weights: Weights, clips: Sequence[Recording]) -> None:
    detector = SileroDetector(weights)
    (clip,) = recordings(names=["cities-8"])
    speech = clip.samples[DETECTOR_RATE:]
    silence = np.zeros_like(speech)

    async def frames(sessions: int, audio: Samples) -> list[float]:
        streams = [detector.open() for _ in range(sessions)]
        times = []
        for at in range(0, audio.size - VOICE_FRAME, VOICE_FRAME):
            frame = audio[at : at + VOICE_FRAME]
            start = time.perf_counter()
            await asyncio.gather(*(stream.probability(frame) for stream in streams))
            times.append(1e3 * (time.perf_counter() - start))
        return times

    for label, sessions, audio in (
        ("1 silent session", 1, silence),
        ("1 speaking", 1, speech),
        ("16 silent", 16, silence),
        ("16 speaking", 16, speech),
    ):
        times = asyncio.run(frames(sessions, audio))
        print(f"voice activity, {label}: {_spread(times)} a frame")
    for gain in (1.0, 0.05):
        lost, total = asyncio.run(_gate_losses(detector, Silero(weights), clips, gain))
        print(f"speech frames lost to the gate at gain {gain}: {lost} of {total} ({100 * lost / total:.2f} %)")


async def _gate_losses(
    detector: SileroDetector, model: Silero, clips: Sequence[Recording], gain: float
) -> tuple[int, int]:
    """How many of the frames that Silero alone calls speech are not called so behind the gate."""
    noise = np.random.default_rng(0)
    lost = total = 0
    for clip in clips:
        audio = np.pad(clip.samples * np.float32(gain), DETECTOR_RATE)
        audio += noise.normal(0, 0.0003, audio.size).astype(np.float32)
        stream, state = detector.open(), SileroState()
        for at in range(0, audio.size - VOICE_FRAME + 1, VOICE_FRAME):
            frame = audio[at : at + VOICE_FRAME]
            if model.step([frame], [state])[0] >= 0.5:
                total += 1
                lost += await stream.probability(frame) < 0.5
            else:
                await stream.probability(frame)
    return lost, total


def turn_ends(weights: Weights, turns: Sequence[Recording]) -> None:
    with ThreadPoolExecutor(1) as executor:
        model = SmartTurn(weights, executor)
        audio = turns[0].samples
        print(f"end of turn: {_milliseconds(partial(model.predict, audio), 30)}")
        silence = np.zeros(DETECTOR_RATE // 5, dtype=np.float32)
        # 200 ms into a pause, when a session first asks.
        pauses = [
            model.predict(turn.samples[: int((start + 0.2) * DETECTOR_RATE)])
            for turn in turns
            for start, _ in turn.pauses()
        ]
        ends = [
            model.predict(np.concatenate((turn.samples[: int(turn.speech_end() * DETECTOR_RATE)], silence)))
            for turn in turns
        ]
    for threshold in (0.5, 0.7, 0.9):
        print(
            f"at {threshold}: {_share(pauses, threshold)} of {len(pauses)} pauses are taken for ends, "
            f"{_share(ends, threshold)} of {len(ends)} ends are found"
        )


def _share(probabilities: Sequence[float], threshold: float) -> str:
    return f"{100 * float(np.mean(np.array(probabilities) >= threshold)):.0f} %"


def _spelled(clip: Recording) -> bool:
    """Single letters, ordinals and the radio alphabet: not what one says to an assistant."""
    return bool(re.match("asterisk-(letters|phonetic|spy|digits-h)", clip.name))


def _words(text: str) -> str:
    text = text.lower().replace("*", " star ").replace("#", " pound ")
    words = re.sub("[^a-z0-9' ]", " ", text).split()
    return " ".join(_NUMBERS.get(int(word), word) if word.isdigit() else word for word in words)


def _milliseconds(call: Callable[[], object], repeats: int) -> str:
    """Elapsed time, and the processor's, which other programs disturb less."""
    times = []
    busy = time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    busy = 1e3 * (time.process_time() - busy) / repeats
    return f"{_spread(times)}, {busy:.0f} ms of CPU"


def _spread(milliseconds: Sequence[float]) -> str:
    fastest, median, slow = np.percentile(milliseconds, (0, 50, 95))
    return f"{median:.2f} ms (fastest {fastest:.2f}, p95 {slow:.2f})"


if __name__ == "__main__":
    main()
