"""How long endpointing waits after the last word, and how often it cuts a speaker off.

Each recording is played to the real detectors and the real `Endpointer`, frame by frame; the turn-end model's answer
comes back after `ANSWER` of audio, as it does on an idle core. A *false cut* is a turn ended before the recording's
last sound; the *wait* is from that sound to the turn's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recordings import Recording, recordings
from models.turn_detector import SmartTurn
from models.vad import Silero, SileroState
from models.weights import Weights
from streaming.config import SemanticVad, ServerVad, TurnDetection
from streaming.endpointing import MS, Act, Endpointer, Endpointing, Voice
from streaming.engine import DETECTOR_RATE, VOICE_FRAME, Samples

ANSWER = 45 * MS
"""Samples that pass until the turn-end model has answered."""

_LEAD_IN = DETECTOR_RATE // 2
_LEAD_OUT = 10 * DETECTOR_RATE
_PADDING = 300 * MS
_LOOK = 8 * DETECTOR_RATE

SETTINGS: dict[str, TurnDetection] = {
    "semantic_vad, high": SemanticVad(eagerness="high"),
    "semantic_vad, auto": SemanticVad(eagerness="auto"),
    "semantic_vad, low": SemanticVad(eagerness="low"),
    "server_vad, 200 ms": ServerVad(silence_duration_ms=200),
    "server_vad, 500 ms": ServerVad(silence_duration_ms=500),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording in silence, with its voice probabilities, and the turn-end model's answers by position."""

    recording: Recording
    audio: Samples
    end: int
    voice: tuple[float, ...]
    turn_end: Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Waits:
    """What one rule did to all recordings: the waits (ms) of the turns that were not cut, and how many were."""

    waits: tuple[float, ...]
    cut: int

    @property
    def false_cut_rate(self) -> float:
        """The share of the recordings that were cut."""
        return self.cut / (self.cut + len(self.waits))

    def percentile(self, q: float) -> float:
        """A percentile of the waits, in ms."""
        return float(np.percentile(self.waits, q)) if self.waits else float("nan")


def listen(recording: Recording, silero: Silero, smart_turn: SmartTurn) -> Heard:
    """Play a recording to the detectors, once; the turn-end model is asked as rules want it, and remembered."""
    end = int(recording.speech_end() * DETECTOR_RATE)
    noise = np.random.default_rng(0).normal(0, 2e-4, _LEAD_IN + end + _LEAD_OUT)
    audio = noise.astype(np.float32)
    audio[_LEAD_IN : _LEAD_IN + end] += recording.samples[:end]
    state = SileroState()
    frames = audio[: len(audio) // VOICE_FRAME * VOICE_FRAME].reshape(-1, VOICE_FRAME)
    voice = tuple(silero.step([frame], [state])[0] for frame in frames)
    answers: dict[tuple[int, int], float] = {}

    def turn_end(start: int, at: int) -> float:
        key = max(start - _PADDING, at - _LOOK, 0), at
        if key not in answers:
            answers[key] = smart_turn.predict(audio[key[0] : at])
        return answers[key]

    return Heard(recording, audio, _LEAD_IN + end, voice, turn_end)


def wait_of(heard: Heard, rule: Endpointing) -> float | None:
    """The wait in ms after the last word, or None where the turn was cut before it (or never ended)."""
    endpointer = Endpointer(rule)
    answers: list[tuple[int, int]] = []
    for index, probability in enumerate(heard.voice):
        end = (index + 1) * VOICE_FRAME
        at, act = end, Act.NOTHING
        while answers and answers[0][0] <= end and act is not Act.ENDED:
            at, asked = answers.pop(0)
            act = endpointer.turn_end(asked, heard.turn_end(endpointer.voice_start, asked))
        if act is not Act.ENDED:
            at, act = end, endpointer.hear(end, probability)
        if act is Act.ENDED:
            return (at - heard.end) / MS if at > heard.end else None
        if endpointer.state is Voice.PAUSING and endpointer.should_ask():
            answers.append((end + ANSWER, end))
    return None


def measure(all_heard: Sequence[Heard], rule: Endpointing) -> Waits:
    """Apply a rule to every recording."""
    waits = [wait_of(heard, rule) for heard in all_heard]
    return Waits(tuple(wait for wait in waits if wait is not None), waits.count(None))


def load(directory: Path = Path(".models")) -> list[Heard]:
    """All complete utterances between 0.7 and 20 s, heard."""
    weights = Weights(directory)
    with ThreadPoolExecutor(1) as executor:
        silero, smart_turn = Silero(weights), SmartTurn(weights, executor)
        chosen = [r for r in recordings() if r.complete and r.transcript and 0.7 < r.seconds < 20]
        return [listen(recording, silero, smart_turn) for recording in chosen]


def table() -> str:
    """The benchmark's table, in Markdown."""
    everything = load()
    paused = [heard for heard in everything if heard.recording.pauses()]
    rows = [
        f"| endpointing | wait p50 / p95, ms | false cuts, all {len(everything)} | "
        f"false cuts, the {len(paused)} with pauses of 200 ms and more |",
        "|---|---|---|---|",
    ]
    for name, setting in SETTINGS.items():
        rule = Endpointing.of(setting)
        of_all, of_paused = measure(everything, rule), measure(paused, rule)
        rows.append(
            f"| {name} | {of_all.percentile(50):.0f} / {of_all.percentile(95):.0f} | "
            f"{of_all.false_cut_rate:.1%} | {of_paused.false_cut_rate:.1%} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
