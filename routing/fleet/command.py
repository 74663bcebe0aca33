"""The command that starts a worker."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from routing.fleet.contract import Deployment
from streaming.errors import EngineError

ROOT = Path(__file__).parents[2]
"""The checkout, where `python -m models` is found."""

_KEY = "MUSE_WORKER_KEY"
_FOR_WORKERS = ("MUSE_WORKER_", "MUSE_HUB_")
"""The settings that a worker reads itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """How workers are started: `python` is their environment's interpreter, `options` go to each of them.

    The options may say which engine it is (`--engine echo-duplex`); what a deployment decides comes after them and
    cannot be overridden.
    """

    python: Path
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, python: Path, options: str) -> WorkerCommand:
        """`options` as in a shell. Raises EngineError where they cannot be read."""
        try:
            return cls(python=python, options=tuple(shlex.split(options)))
        except ValueError as error:
            message = f"MUSE_ROUTING_WORKER_OPTIONS: {str(error).lower()}; expected options as in a shell"
            raise EngineError(message, code="invalid_value") from None

    def check(self) -> None:
        """Raises EngineError where there is no such interpreter on this machine."""
        if shutil.which(ROOT / self.python) is None and shutil.which(self.python) is None:
            message = f"MUSE_ROUTING_WORKER_PYTHON: there is no {self.python}; `make worker-moshi` installs one"
            raise EngineError(message, code="invalid_value")

    def line(self, deployment: Deployment, *, listen: str) -> list[str]:
        """The command's words; `listen` is host:port."""
        return [
            str(self.python),
            *("-m", "models", "worker", "--engine=moshi"),
            *self.options,
            # Joined to their names, since what strangers chose may begin with a dash.
            f"--model={deployment.weights}",
            f"--name={deployment.key}",
            f"--hotkey={deployment.hotkey or ''}",
            f"--listen={listen}",
            "--log-level=info",  # the line by which it says that it is ready
        ]


def environment(inherited: Mapping[str, str], key: str) -> dict[str, str]:
    """A worker's variables: those of this process but for the gateway's own settings, among which are secrets."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("MUSE_") or name.startswith(_FOR_WORKERS)
    }
    return kept | ({_KEY: key} if key else {})
