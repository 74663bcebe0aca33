"""The engine that the worker's settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable

from models.catalogue import EngineSettings, build_engine
from models.worker.batch import DuplexBatch
from models.worker.duplex import DuplexHost
from models.worker.echo import EchoBatch
from models.worker.host import Host
from models.worker.metrics import WorkerMetrics
from models.worker.settings import SettingsError, WorkerSettings
from models.worker.turn_based import TurnBasedHost

_log = logging.getLogger(__name__)


def build_host(settings: WorkerSettings, *, clock: Callable[[], int], metrics: WorkerMetrics) -> Host:
    """The engine, not yet loaded. Raises EngineError where a file is missing, SettingsError where a package is."""
    match settings.engine:
        case "moshi":
            return DuplexHost(_moshi(settings), settings, clock=clock, metrics=metrics)
        case "echo-duplex":
            return DuplexHost(lambda: EchoBatch(settings.slots), settings, clock=clock, metrics=metrics)
        case "echo" | "embedded" as kind:
            chosen = EngineSettings(models_dir=settings.models_dir, max_sessions=settings.slots, workers=settings.cores)
            try:
                engine = build_engine(kind, chosen, clock=clock)
            except ModuleNotFoundError as error:
                raise SettingsError(f"--engine {kind} needs {error.name}: pip install 'muse-voice[{kind}]'") from None
            return TurnBasedHost(engine, name=settings.name, first_message_seconds=settings.first_message_seconds)


def _moshi(settings: WorkerSettings) -> Callable[[], DuplexBatch]:
    """Fetches and verifies the weights, and makes the batch, when it is called."""
    if not settings.model:
        raise SettingsError("--model: expected a repository with its commit, or a directory")
    try:
        import torch

        from models.hub.settings import read_settings
        from models.hub.snapshot import resolve
        from models.moshi.batch import MoshiBatch
    except ModuleNotFoundError as error:
        raise SettingsError(f"--engine moshi needs {error.name}: make worker-moshi, and run it there") from None
    hub = read_settings()

    def open_batch() -> DuplexBatch:
        # A tick's operations are small: two threads that wait for each other on busy cores take longer than one.
        torch.set_num_threads(settings.cores or 1)
        _log.info("weights: fetching what is missing, and verifying: %s", settings.model)
        snapshot = resolve(settings.model, settings=hub, hotkey=settings.hotkey or None)
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return MoshiBatch(snapshot.directory, slots=settings.slots, device=device, window=settings.window)

    return open_batch
