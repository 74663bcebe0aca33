"""The worker's Prometheus metrics, in a registry of their own. Times are in seconds."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from models.worker.batch import Step
from models.worker.slots import SlotState

_TICK = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.16, 0.32, 1.0)
_COST = (0.0001, 0.0002, 0.0003, 0.0004, 0.0006, 0.0008, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02, 0.08)


class WorkerMetrics:
    """Every metric of a worker."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.tick = Histogram(
            "muse_worker_tick_seconds",
            "From when a tick was due until its last frame was handed on; ticks without a frame are left out.",
            buckets=_TICK,
            registry=registry,
        )
        self.part = Histogram(
            "muse_worker_tick_part_seconds",
            "The parts of a tick that are the model's: encode, model, decode.",
            ["part"],
            buckets=_TICK,
            registry=registry,
        )
        self.cost = Histogram(
            "muse_worker_tick_cost_seconds",
            "The part of a tick that is not the model's: gathering, the way to its thread and back, handing on.",
            buckets=_COST,
            registry=registry,
        )
        self.late = Histogram(
            "muse_worker_tick_late_seconds", "How late a tick began.", buckets=_COST, registry=registry
        )
        self.missed = Counter("muse_worker_deadlines_missed", "Ticks that ran into the next.", registry=registry)
        self.frames = Counter("muse_worker_frames", "Frames that the model was given.", registry=registry)
        self.sat_out = Counter(
            "muse_worker_frames_sat_out", "Ticks for which a slot had no frame of its client.", registry=registry
        )
        self.dropped = Counter(
            "muse_worker_frames_dropped",
            "Frames dropped so that a conversation is not late: early (before the prompt was in), standing.",
            ["reason"],
            registry=registry,
        )
        self.slots = Gauge("muse_worker_slots", "Slots by state.", ["state"], registry=registry)
        self.refused = Counter(
            "muse_worker_refusals", "Connections refused before the upgrade.", ["code"], registry=registry
        )
        self.closed = Counter(
            "muse_worker_conversations_closed", "Conversations ended, by WebSocket code.", ["code"], registry=registry
        )

    def observe_step(self, step: Step, *, whole: int, late: int, frames: int) -> None:
        """A tick with `frames` ended `whole` ns after it was due; it had begun `late` ns after."""
        self.tick.observe(whole / 1e9)
        self.late.observe(late / 1e9)
        for part, length in (("encode", step.encode), ("model", step.model), ("decode", step.decode)):
            self.part.labels(part).observe(length / 1e9)
        self.cost.observe(max(0, whole - late - step.encode - step.model - step.decode) / 1e9)
        self.frames.inc(frames)

    def count_slots(self, states: Iterable[SlotState]) -> None:
        """Take note of every slot's state."""
        counts = collections.Counter(states)
        for state in get_args(SlotState):
            self.slots.labels(state).set(counts[state])

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
