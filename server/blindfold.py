"""What the client of a blind conversation is not told: whatever could say which model answers.

The session itself knows the model by its label only (`Gateway.admit`). What else the model's engine puts into the
events is taken out here: how long each of its stages took, how many tokens it counted, what it says when it fails.

What is left can still betray a model to somebody who knows it: its voice and manners, how fast it answers, whether it
is duplex (`session.created` shows what holds, and such an engine refuses what others do not), whether it speaks and
finds the user's words, and the languages that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from server.driver import Connection
from streaming.client_events import ClientEvent
from streaming.observations import CloseSession
from streaming.server_events import (
    ErrorDetail,
    ErrorEvent,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    TranscriptionFailed,
)

_OURS = "muse."  # keys of metadata that the server adds
_FAILED = ErrorDetail(type="server_error", code="engine_error", message="The model has failed.")
_CLOSED = CloseSession(code=1011, reason=_FAILED.message)


class Blindfold:
    """A client's connection, on whatever wire, past which no model's name gets."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def receive(self) -> ClientEvent:
        """See `Connection.receive`."""
        return await self._connection.receive()

    def send(self, event: ServerEvent) -> None:
        """See `Connection.send`."""
        self._connection.send(_masked(event))


def blindfolded(close: CloseSession | None) -> CloseSession | None:
    """How to close a blind conversation: an engine that is lost is not quoted."""
    return _CLOSED if close is not None and close.code == _CLOSED.code else close


def _masked(event: ServerEvent) -> ServerEvent:
    match event:
        case ResponseCreated() | ResponseDone():
            return replace(event, response=_response(event.response))
        case ErrorEvent() | TranscriptionFailed():
            return replace(event, error=_error(event.error))
    return event


def _response(response: Response) -> Response:
    details = response.status_details
    if details is not None and details.error is not None:
        details = replace(details, error=_error(details.error))
    return replace(response, status_details=details, usage=None, metadata=_given(response.metadata))


def _given(metadata: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """What the client itself put there."""
    given = {key: value for key, value in (metadata or {}).items() if not key.startswith(_OURS)}
    return given or None


def _error(error: ErrorDetail) -> ErrorDetail:
    """A client's own mistake is explained to it: the label is all that such a message can name."""
    return replace(_FAILED, event_id=error.event_id) if error.type == _FAILED.type else error
