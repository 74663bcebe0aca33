"""Prometheus metrics, in a registry of their own.

Times are in seconds. The parts of a turn's latency are those of `streaming.timeline` and add up to the whole.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streaming.observations import BargeInMeasured, Observation, SpeculationEnded, TurnMeasured, Underrun

_WAIT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
_STOP = (0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)
_STALL = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0, 5.0)
_SESSION = (1, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)

MOST_CODES = 64
"""Codes of engines' failures that are counted one by one."""


class Metrics:
    """Every metric of the server. A test or an embedding application passes its own registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self._codes: set[str] = set()
        self.turn_latency = Histogram(
            "muse_turn_latency_seconds",
            "End of the user's speech to the reply's first frame sent.",
            buckets=_WAIT,
            registry=registry,
        )
        self.turn_part = Histogram(
            "muse_turn_part_seconds",
            "What a turn's latency was spent on; the parts add up to muse_turn_latency_seconds.",
            ["part"],
            buckets=_WAIT,
            registry=registry,
        )
        self.barge_in = Histogram(
            "muse_barge_in_seconds",
            "Between the moments of a barge-in: onset_to_duck, onset_to_decision, decision_to_last_frame.",
            ["step"],
            buckets=_STOP,
            registry=registry,
        )
        self.barge_ins = Counter("muse_barge_ins", "Speech over a reply, by outcome.", ["outcome"], registry=registry)
        self.underruns = Counter("muse_underruns", "Replies that ran dry at the client.", registry=registry)
        self.underrun_gap = Counter(
            "muse_underrun_gap_seconds", "Silence that underruns put into replies.", registry=registry
        )
        self.speculation = Counter(
            "muse_speculations", "Replies prepared before the turn was over.", ["outcome"], registry=registry
        )
        self.loop_stall = Histogram(
            "muse_event_loop_stall_seconds",
            "How much later than asked the event loop woke a sleeper.",
            buckets=_STALL,
            registry=registry,
        )
        self.sessions = Gauge("muse_sessions_active", "Conversations that are open.", registry=registry)
        self.session_length = Histogram(
            "muse_session_seconds", "Length of conversations.", buckets=_SESSION, registry=registry
        )
        self.refused = Counter(
            "muse_connections_refused", "Connections refused before the upgrade.", ["reason"], registry=registry
        )
        self.closed = Counter(
            "muse_sessions_closed", "Conversations ended, by WebSocket code.", ["code"], registry=registry
        )
        self.frames = Counter("muse_frames", "Messages from (in), to (out) clients.", ["direction"], registry=registry)
        self.bytes = Counter("muse_bytes", "Bytes from (in) and to (out) clients.", ["direction"], registry=registry)
        self.bad_events = Counter("muse_bad_client_events", "Client events that could not be read.", registry=registry)
        self.slow_consumers = Counter(
            "muse_slow_consumer_drops", "Conversations dropped because the client read too slowly.", registry=registry
        )
        self.engine_errors = Counter(
            "muse_engine_errors", "Failures of engines and detectors.", ["code"], registry=registry
        )
        self.lost_records = Counter(
            "muse_records_lost",
            "Log lines and trace records dropped for a slow sink.",
            ["sink"],
            registry=registry,
        )

    def engine_failed(self, code: str) -> None:
        """Count a failure. Codes beyond the first MOST_CODES are one, `other`: a worker may say what it will."""
        if code not in self._codes and len(self._codes) >= MOST_CODES:
            code = "other"
        self._codes.add(code)
        self.engine_errors.labels(code).inc()

    def observe(self, observation: Observation) -> None:
        """Count what a session measured."""
        match observation:
            case TurnMeasured(latency=latency):
                self.turn_latency.observe(latency.total / 1e9)
                for part, duration in latency.parts:
                    self.turn_part.labels(part).observe(duration / 1e9)
            case BargeInMeasured():
                self._observe_barge_in(observation)
            case Underrun(gap=gap):
                self.underruns.inc()
                self.underrun_gap.inc(gap / 1e9)
            case SpeculationEnded(used=used):
                self.speculation.labels("used" if used else "wasted").inc()

    def _observe_barge_in(self, measured: BargeInMeasured) -> None:
        self.barge_ins.labels(measured.outcome).inc()
        self.barge_in.labels("onset_to_decision").observe((measured.decided - measured.onset) / 1e9)
        if measured.ducked is not None:
            self.barge_in.labels("onset_to_duck").observe((measured.ducked - measured.onset) / 1e9)
        if measured.last_frame is not None:
            # A reply whose last frame had gone before the decision stopped at once.
            stopped = max(0, measured.last_frame - measured.decided)
            self.barge_in.labels("decision_to_last_frame").observe(stopped / 1e9)
