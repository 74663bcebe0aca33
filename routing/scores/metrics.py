"""The metrics that validators may deliver. What is not here is refused, and so is what lies outside of its range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from routing.scores.standings import TOTAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. Its values lie from `low` to `high`, in `unit`; differences below `grain` mean nothing."""

    id: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    about: str
    low: float = 0.0
    high: float = 1.0
    grain: float = 0.005


def _share(name: str, title: str, better: Literal["higher", "lower"], about: str) -> Metric:
    return Metric(id=name, title=title, unit="", better=better, about=about)


def _delay(name: str, title: str, about: str, *, low: float = 0.0) -> Metric:
    return Metric(id=name, title=title, unit="ms", better="lower", about=about, low=low, high=60_000.0, grain=10.0)


_EARLY = -10_000.0  # ms: who answers before the user's turn is over has a negative delay

_ALL = (
    _share(TOTAL, "Score", "higher", "the scorer profile's total, by which models are ranked; a failed scoring is 0"),
    # The profile sn21-v1-2025-02.
    _share("mimi", "Codec", "higher", "how many of Mimi's codes are those of the expected answer"),
    _share("wer", "Words", "higher", "1 less the word error rate against the expected answer's transcript"),
    _share("pesq", "PESQ", "higher", "perceived quality against the expected answer (ITU-T P.862), scaled to 0 to 1"),
    _share("spoof", "Speaker", "higher", "how near the voice is to the expected one, by RawNet3's embeddings"),
    # The profile sn21-v4.
    _share(
        "voicebench", "VoiceBench", "higher", "spoken questions answered: open, instructions followed, harm refused"
    ),
    Metric(
        id="utmos",
        title="UTMOS",
        unit="MOS",
        better="higher",
        about="how natural the voice sounds, as a mean opinion score predicted by UTMOSv2",
        high=5.0,
        grain=0.02,
    ),
    # Full-Duplex-Bench v1. TOR: the share of samples in which the model takes the turn.
    _share("pause_tor", "Pause TOR", "lower", "how often it takes the turn while the user only pauses"),
    _share("turn_tor", "Turn TOR", "higher", "how often it takes the turn when the user's is over"),
    _delay(
        "turn_latency", "Turn latency", "from the user's last word to its first, where it takes the turn", low=_EARLY
    ),
    _share(
        "backchannel_tor", "Backchannel TOR", "lower", "how often it takes the turn where a listener would only hum"
    ),
    Metric(
        id="backchannel_rate",
        title="Backchannels",
        unit="1/s",
        better="higher",
        about="short listener's sounds a second",
        high=10.0,
    ),
    _share("backchannel_jsd", "Backchannel timing", "lower", "distance of their timing from people's (Jensen-Shannon)"),
    _share("interruption_tor", "Interruption TOR", "higher", "how often it answers a user who interrupted it"),
    _delay("interruption_latency", "Interruption latency", "from the end of an interruption to its answer", low=_EARLY),
    # Timing in conversation, as tau-voice names it.
    _delay("response_gap", "Response gap", "median from the end of the user's speech to the first sound", low=_EARLY),
    _delay("response_gap_p95", "Response gap, p95", "the same, of the slowest of twenty answers", low=_EARLY),
    _delay("yield_time", "Time to yield", "until it is silent once a user interrupts it"),
    _share("overlap", "Overlap", "lower", "share of the time in which both speak"),
    Metric(
        id="interruptions",
        title="Interruptions",
        unit="per turn",
        better="lower",
        about="how often it speaks into a turn of the user",
        high=100.0,
    ),
    _share("backchannel_ignored", "Hums ignored", "higher", "share of the user's backchannels that do not stop it"),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.id: metric for metric in _ALL})
"""By id, in the order in which they are shown."""
