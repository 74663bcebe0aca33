"""What can go wrong for a client, in words for the person at the keyboard."""

from __future__ import annotations

from streaming.errors import MuseError


class ClientError(MuseError):
    """A conversation that could not be had, or could not go on."""


class UnreachableError(ClientError):
    """Nothing answers at the server's address."""


class RefusedError(ClientError):
    """The server answered and would not take the conversation; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class DisconnectedError(ClientError):
    """The server closed the connection in mid-conversation; `code` is the WebSocket close code."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class NoReplyError(ClientError):
    """The server did not answer a turn in time."""


class AudioFileError(ClientError):
    """A file that is not the audio it should be."""


class MicrophoneError(ClientError):
    """No microphone or loudspeaker can be used."""
