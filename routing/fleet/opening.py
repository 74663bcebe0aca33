"""The fleet that the settings ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from models.access import key_fault
from routing.fleet.command import WorkerCommand
from routing.fleet.contract import Fleet
from routing.fleet.converging import ConvergingFleet
from routing.fleet.launcher import Launcher
from routing.fleet.local import LocalLauncher
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober
from routing.fleet.static import StaticFleet
from routing.fleet.watch import Pace
from routing.settings import RoutingSettings
from streaming.errors import EngineError


def open_fleet(
    settings: RoutingSettings,
    addresses: Sequence[str],
    pool: EnginePool,
    *,
    key: str = "",
    clock: Callable[[], int] = time.monotonic_ns,
    pace: Pace | None = None,
) -> Fleet:
    """A fleet, not yet started.

    `addresses` are the static fleet's workers. `key` (MUSE_ENGINE_KEY) is what workers at an address want, and what
    those that are started here are told to want. Raises EngineError naming a setting that is wrong.
    """
    if not key.isascii() or not key.isprintable():
        raise EngineError("MUSE_ENGINE_KEY: expected plain ASCII characters", code="invalid_value")
    prober = Prober(pool, key=key)
    if settings.fleet == "static":
        return StaticFleet(addresses, prober=prober, clock=clock, pace=pace)
    if key and (fault := key_fault(key)):
        raise EngineError(f"MUSE_ENGINE_KEY: {fault}", code="invalid_value")
    command = WorkerCommand.parse(settings.worker_python, settings.worker_options)
    return ConvergingFleet(_launcher(settings, command, key), prober=prober, pool=pool, clock=clock, pace=pace)


def _launcher(settings: RoutingSettings, command: WorkerCommand, key: str) -> Launcher:
    if settings.fleet == "local":
        return LocalLauncher(command, key=key)

    from routing.fleet.ray import RayLauncher
    from routing.fleet.ray_cluster import RayOptions

    options = RayOptions(address=settings.ray_address, gpus=settings.worker_gpus, cpus=settings.worker_cpus, key=key)
    return RayLauncher(command, options)
