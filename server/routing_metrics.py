"""The router's figures for Prometheus, read when they are asked for.

Labels are bounded: by what the policy distinguishes, and to `MOST_MODELS` models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from routing.control import Control
from routing.fleet.contract import WorkerState
from routing.leaderboard import DropCode
from routing.policy.contract import Stage
from routing.router import Router

MOST_MODELS = 64
"""Models of which figures are shown one by one; those beyond are put together as `other`."""


class RoutingCollector(Collector):
    """Reads a router and the loops beside it."""

    def __init__(self, router: Router, control: Control) -> None:
        self._router = router
        self._control = control

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        yield from self._leaderboard()
        yield from self._decisions()
        yield from self._workers()
        yield from self._live()

    def _leaderboard(self) -> Iterator[Metric]:
        state = self._control.leaderboard
        if state.age is not None:
            yield GaugeMetricFamily(
                "muse_leaderboard_age_seconds", "Since the leaderboard was taken that is gone by.", state.age
            )
        yield GaugeMetricFamily(
            "muse_leaderboard_stale",
            "1 where it is older than the operator allows, or has never been read.",
            state.stale,
        )
        yield GaugeMetricFamily(
            "muse_leaderboard_failures", "Readings in a row that failed; 0 where the last one did not.", state.failures
        )
        dropped = GaugeMetricFamily(
            "muse_leaderboard_dropped", "Commitments that are not on the leaderboard, by why.", labels=["code"]
        )
        counts = Counter(drop.code for drop in state.snapshot.dropped) if state.snapshot else Counter()
        for code in get_args(DropCode):
            dropped.add_metric([code], counts[code])
        yield dropped
        troubles = GaugeMetricFamily(
            "muse_routing_troubles", "What does not work beside the conversations.", labels=["what"]
        )
        for what in self._control.troubles.open:
            troubles.add_metric([what], 1)
        yield troubles

    def _decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "muse_routing_decisions", "Conversations placed, by role and model.", labels=["role", "model"]
        )
        for (role, model), count in _bounded(self._router.decisions).items():
            decisions.add_metric([role, model], count)
        yield decisions
        yield CounterMetricFamily(
            "muse_routing_rollbacks",
            "Versions taken out of service: they did worse, or could not be loaded or tried.",
            self._control.rollbacks,
        )
        stages = GaugeMetricFamily("muse_routing_stage", "1 for the stage of the rollout.", labels=["stage"])
        for stage in get_args(Stage):
            stages.add_metric([stage], stage == self._router.rollout.stage)
        yield stages
        yield GaugeMetricFamily(
            "muse_routing_canary_share",
            "Share of new conversations that the candidate gets.",
            self._router.rollout.share,
        )

    def _workers(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("muse_workers", "Workers, by state.", labels=["state"])
        counts = Counter(worker.state for worker in self._router.fleet.workers())
        for state in get_args(WorkerState):
            workers.add_metric([state], counts[state])
        yield workers

    def _live(self) -> Iterator[Metric]:
        gap = GaugeMetricFamily(
            "muse_live_gap_seconds",
            "From the end of the user's speech to the reply's first frame, lately, shadows included.",
            labels=["version", "quantile"],
        )
        misses = GaugeMetricFamily(
            "muse_live_misses", "Share of frames that came back late, lately.", labels=["version"]
        )
        errors = GaugeMetricFamily(
            "muse_live_errors", "Share of conversations that the engine failed, lately.", labels=["version"]
        )
        table = self._router.timings()
        latest = sorted(table.items(), key=lambda item: -item[1].sessions)[:MOST_MODELS]
        for version, stats in latest:
            for quantile, value in (("0.5", stats.gap_p50), ("0.95", stats.gap_p95)):
                if value is not None:
                    gap.add_metric([version, quantile], value / 1e3)
            if stats.misses is not None:
                misses.add_metric([version], stats.misses)
            if stats.errors is not None:
                errors.add_metric([version], stats.errors)
        yield from (gap, misses, errors)


def register(registry: CollectorRegistry, router: Router, control: Control) -> None:
    """Have the registry show the router's figures."""
    registry.register(RoutingCollector(router, control))


def _bounded(decisions: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """With models beyond the first MOST_MODELS put together: they stay in the order in which they came."""
    models: Iterable[str] = dict.fromkeys(model for _, model in decisions)
    kept = set(list(models)[:MOST_MODELS])
    bounded: Counter[tuple[str, str]] = Counter()
    for (role, model), count in decisions.items():
        bounded[role, model if model in kept else "other"] += count
    return bounded
