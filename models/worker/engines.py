"""The engine that the worker's settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.catalogue import EngineSettings, build_models
from models.worker.duplex import DuplexHost
from models.worker.echo import EchoBatch
from models.worker.host import Host
from models.worker.metrics import WorkerMetrics
from models.worker.settings import SettingsError, WorkerSettings
from models.worker.turn_based import TurnBasedHost


def build_host(settings: WorkerSettings, *, clock: Callable[[], int], metrics: WorkerMetrics) -> Host:
    """The engine, not yet loaded. Raises EngineError where a file is missing, SettingsError where a package is."""
    match settings.engine:
        case "moshi":
            if not settings.model:
                raise SettingsError("--model: expected a repository with its commit, or a directory")
            try:
                from models.moshi.batch import MoshiBatch
            except ModuleNotFoundError as error:
                raise SettingsError(f"--engine moshi needs {error.name}: make worker-moshi, and run it there") from None
            batch = MoshiBatch(
                Path(settings.model), slots=settings.slots, device=settings.device, window=settings.window
            )
            return DuplexHost(batch, settings, clock=clock, metrics=metrics)
        case "echo-duplex":
            return DuplexHost(EchoBatch(settings.slots), settings, clock=clock, metrics=metrics)
        case "echo" | "embedded" as kind:
            chosen = EngineSettings(models_dir=settings.models_dir, max_sessions=settings.slots, workers=settings.cores)
            try:
                return TurnBasedHost(build_models(kind, chosen, clock=clock).engine)
            except ModuleNotFoundError as error:
                raise SettingsError(f"--engine {kind} needs {error.name}: pip install 'muse-voice[{kind}]'") from None
