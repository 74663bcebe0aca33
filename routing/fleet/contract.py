"""Workers: which are wanted, which are there.

One protocol for a fixed list, for processes of this machine, and for Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streaming.engine import EngineInfo

WorkerState = Literal[
    "starting",  # loading its model
    "ready",
    "overloaded",  # its ticks are late: takes nobody for now
    "draining",  # no longer wanted: takes nobody, and goes when its last conversation is over
    "lost",  # does not answer; looked for again
    "failed",  # cannot serve this model; `problem` says why
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model that is wanted, and on how many workers.

    `key`: what it is scored and served under (`leaderboard.model_key`), which a worker then gives as its
    `EngineInfo.model`. `weights`: what the worker loads, a pinned reference (`models.hub.ref`). `hotkey`: whose it must
    be, None for anybody's.
    """

    key: str
    weights: str
    hotkey: str | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker as it was last seen.

    `address`: what `models.catalogue` builds an engine from: `ws://host:port`, or a name such as `embedded` for one in
    this process; empty while it has none. `key`: the model that it serves. `slots`, `free`: conversations that it can
    hold, and can still take; None where it does not say. `since`: monotonic ns, when it came into this state.
    """

    id: str
    address: str
    key: str
    state: WorkerState
    info: EngineInfo | None = None
    slots: int | None = None
    free: int | None = None
    problem: str | None = None
    since: int = 0

    @property
    def takes(self) -> bool:
        """Whether a conversation may be tried here. Whether there is room, the worker itself decides."""
        return self.state == "ready" and self.free != 0


class Fleet(Protocol):
    """Keeps workers. A fixed list only watches its own; others start, restart and stop them.

    Audio never passes through it: the gateway connects to a worker's address itself.
    """

    async def start(self) -> None:
        """Begin to watch. Raises EngineError where that cannot work at all."""

    async def want(self, deployments: Sequence[Deployment]) -> None:
        """From now on these models are wanted, and no others; returns at once and is worked towards from then on.

        A worker whose model is no longer wanted takes no new conversations, and goes when its last one is over.
        """

    def workers(self) -> tuple[Worker, ...]:
        """All workers as they are now, in a stable order."""

    def changed(self, worker_id: str, *, lost: bool) -> None:
        """A conversation on this worker ended, or failed because the worker is gone: look at it again soon."""

    async def close(self) -> None:
        """Stop what was started here, and watch no more."""
