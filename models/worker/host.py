"""What the worker's server asks of the engine behind it, be it duplex or turn-based."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from websockets.asyncio.server import ServerConnection

from models.worker.ending import Ending
from models.worker.opening import Opening
from models.worker.slots import Slot
from streaming.engine import EngineInfo

HostStatus = Literal["starting", "ok", "overloaded", "stalled", "failed"]


class Host(Protocol):
    """An engine and the conversations on it."""

    @property
    def info(self) -> EngineInfo:
        """See `streaming.engine.Engine.info`; under the worker's own name (`WorkerSettings.name`) where it has one."""

    @property
    def status(self) -> HostStatus:
        """Whether a conversation more could be held, were a slot free."""

    @property
    def most_message_bytes(self) -> int:
        """The largest message that a client may send."""

    async def load(self) -> None:
        """Load and warm up. Raises EngineError naming what is missing or wrong."""

    async def run(self) -> None:
        """Serve until cancelled. Raises EngineError when the engine is broken."""

    def check(self, opening: Opening) -> None:
        """Raises PeerError for what this engine cannot hold."""

    async def converse(self, connection: ServerConnection, slot: Slot, opening: Opening, /) -> Ending | None:
        """Hold a conversation; returns why it ended, None where the client has gone. The slot is clear by then."""

    def numbers(self, slot: Slot) -> Mapping[str, Any]:
        """Counts of the conversation in a slot."""

    def end_all(self, ending: Ending) -> None:
        """End every conversation."""

    async def close(self) -> None:
        """Release the engine."""
