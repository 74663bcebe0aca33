"""The seam between keeping workers and where they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from routing.fleet.contract import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A worker has gone. `problem` says why, safe to show; `refused`: it cannot serve this model.

    `detail` is for the log alone: see `EngineError`.
    """

    problem: str
    refused: bool = False
    detail: str | None = None


class Running(Protocol):
    """One worker that has been launched."""

    async def ready(self) -> str | Exit:
        """The address that it serves at, once it has loaded; or how it went without."""

    async def gone(self) -> Exit:
        """How it went, once it has."""

    async def stop(self, patience: float) -> None:
        """End it: asked first, and killed after `patience` seconds. Returns when it is gone."""


class Launcher(Protocol):
    """Where workers run."""

    async def start(self) -> None:
        """Get ready. Raises EngineError where no worker could ever run here."""

    async def launch(self, deployment: Deployment) -> Running:
        """Start one worker of this model. Raises OSError or EngineError where that cannot be now."""

    async def close(self) -> None:
        """Let go of the place, when the workers are gone."""
