"""The door of blind duels: `model=duel:<token>` lets one conversation in, to a model that it is not told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from routing.duels.duels import Duels
from routing.policy.contract import SessionNeeds
from server.errors import Refused
from server.gateway import Call, Gateway
from streaming.errors import PeerError

_PREFIX = "duel:"

_OURS = ("not_ready", "too_many_sessions")
"""Refusals that come of the server, whatever the model."""


def model_name(token: str) -> str:
    """What the client asks for to talk to that side."""
    return _PREFIX + token


class DuelDoor:
    """Resolves tokens. `clock` gives monotonic ns."""

    def __init__(self, duels: Duels, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._duels = duels
        self._clock = clock

    def leads(self, needs: SessionNeeds) -> bool:
        """Whether this is asked for by a token."""
        return needs.model is not None and needs.model.startswith(_PREFIX)

    @contextlib.asynccontextmanager
    async def admit(self, gateway: Gateway, needs: SessionNeeds) -> AsyncIterator[Call]:
        """As `Gateway.admit`, for the side whose token is asked for; whatever else is needed says nothing here.

        Raises Refused: 404 for a token that is wrong, used or too old, which is as if there were no such model, and 503
        with nothing in it of the model where that cannot answer. The token is good for another try then.
        """
        try:
            side = self._duels.enter((needs.model or "").removeprefix(_PREFIX), now=self._clock())
        except PeerError as error:
            raise Refused(404, error.code, error.message) from None
        entered = False
        try:
            async with gateway.admit(SessionNeeds(model=side.contender.version), blind=side.label) as call:
                entered = True
                self._duels.began(side, call.session_id)
                yield call
        except Refused as refused:  # also by the transport, before it has accepted the connection
            self._duels.leave(side)
            if entered or refused.code in _OURS:
                raise
            message = "This side of the duel cannot answer now; try again."
            raise Refused(503, "engine_busy", message, retry_after=10) from None
