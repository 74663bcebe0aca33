"""One turn of a conversation as its client saw it, collected from the server's events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from streaming import server_events as events
from streaming.audio import AudioFormat
from streaming.engine import Samples
from streaming.server_events import Response, ResponseStatus, ServerEvent
from streaming.wire.openai_realtime import UnknownEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was said, what was answered, and when. Times are the client's monotonic ns; None is "it did not happen"."""

    user_transcript: str
    reply_transcript: str
    reply_audio: Samples
    rate: int
    status: ResponseStatus
    error: str | None
    latency: Mapping[str, float]
    """The server's account of the wait in ms: `total_ms` and its parts; empty where it gave none."""
    speech_ended: int | None
    first_audio: int | None
    ended: int

    @property
    def wait(self) -> float | None:
        """Seconds from the last of the user's speech being sent to the first of the reply's audio arriving."""
        if self.speech_ended is None or self.first_audio is None:
            return None
        return (self.first_audio - self.speech_ended) / 1e9


@dataclass(slots=True)
class _Reply:
    transcript: str = ""
    audio: list[Samples] = field(default_factory=list)
    first_audio: int | None = None
    outcome: Response | None = None


class TurnCollector:
    """Follows the events from the user's first word until the server owes nothing more.

    If the server answered a pause and the user's going on interrupted it, the last reply is the turn's.
    """

    def __init__(self, output: AudioFormat) -> None:
        self._output = output
        self._words: dict[str, str] = {}
        self._reply = _Reply()
        self._speaking = False
        self._owed = False
        self._active = False

    @property
    def settled(self) -> bool:
        """A reply has ended, and neither the user nor the server has anything under way."""
        return self._reply.outcome is not None and not (self._speaking or self._owed or self._active)

    def receive(self, event: ServerEvent | UnknownEvent, *, now: int) -> None:
        """Take the next event, which arrived at `now`."""
        match event:
            case events.SpeechStarted():
                self._speaking = True
            case events.SpeechStopped():
                self._speaking = False
            case events.AudioCommitted():
                self._speaking = False
                self._owed = True
            case events.TranscriptionCompleted():
                self._words[event.item_id] = event.transcript
            case events.ResponseCreated():
                self._reply = _Reply()
                self._owed = False
                self._active = True
            case events.ResponseDone():
                self._reply.outcome = event.response
                self._active = False
            case _:
                self._receive_content(event, now)

    def _receive_content(self, event: ServerEvent | UnknownEvent, now: int) -> None:
        reply = self._reply
        match event:
            case events.AudioDelta():
                if reply.first_audio is None:
                    reply.first_audio = now
                reply.audio.append(self._output.decode(event.delta))
            case events.TextDelta() | events.AudioTranscriptDelta():
                reply.transcript += event.delta
            case events.TextDone():
                reply.transcript = event.text
            case events.AudioTranscriptDone():
                reply.transcript = event.transcript

    def turn(self, *, speech_ended: int | None, now: int) -> Turn:
        """The turn as it stands; call it once `settled`."""
        reply = self._reply
        outcome = reply.outcome
        details = outcome.status_details if outcome else None
        return Turn(
            user_transcript=" ".join(filter(None, self._words.values())),
            reply_transcript=reply.transcript,
            reply_audio=np.concatenate([np.zeros(0, np.float32), *reply.audio]),
            rate=self._output.rate,
            status=outcome.status if outcome else "in_progress",
            error=details.error.message if details and details.error else None,
            latency=latency_of(outcome) if outcome else {},
            speech_ended=speech_ended,
            first_audio=reply.first_audio,
            ended=now,
        )


def latency_of(response: Response) -> dict[str, float]:
    """The server's account of a turn's wait in ms, from a response's metadata; empty if there is none to read."""
    try:
        latency = json.loads((response.metadata or {})["muse.latency"])
        return {str(name): float(value) for name, value in latency.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
