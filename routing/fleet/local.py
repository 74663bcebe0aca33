"""Workers as processes of this machine."""

from __future__ import annotations

import os

from routing.fleet.command import WorkerCommand, environment
from routing.fleet.contract import Deployment
from routing.fleet.process import WorkerProcess


class LocalLauncher:
    """See `routing.fleet.launcher.Launcher`. Workers listen on loopback, and want `key` where there is one."""

    def __init__(self, command: WorkerCommand, *, key: str = "") -> None:
        self._command = command
        self._key = key

    async def start(self) -> None:
        """See `Launcher.start`."""
        self._command.check()

    async def launch(self, deployment: Deployment) -> WorkerProcess:
        """See `Launcher.launch`."""
        line = self._command.line(deployment, listen="127.0.0.1:0")
        return await WorkerProcess.spawn(line, environment(os.environ, self._key))

    async def close(self) -> None:
        """See `Launcher.close`."""
