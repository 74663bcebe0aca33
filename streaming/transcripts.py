"""The users' words: asked of the engine, kept until their item is committed, then told to the client.

A turn-based engine that finds no words (`EngineInfo.transcribes`) is given each turn's audio in the same way, because a
reply refers to it by the item's id; what it answers is of no account, and the client is told nothing. A duplex engine
has heard the audio already.
"""

from __future__ import annotations

from dataclasses import dataclass

from streaming.conversation import Conversation
from streaming.core import Core
from streaming.engine import Samples, Transcribe, Transcript, TranscriptFailed
from streaming.server_events import (
    DurationUsage,
    ErrorDetail,
    TranscriptionCompleted,
    TranscriptionDelta,
    TranscriptionFailed,
)


@dataclass(slots=True)
class _Asked:
    """An item whose words are wanted. `seconds` is the length of its audio once it is committed."""

    revision: int = 0
    seconds: float | None = None
    answer: Transcript | TranscriptFailed | None = None


class Transcripts:
    """Asks for words and hands them on. An item may be asked about again with more audio; the last asking counts."""

    def __init__(self, core: Core, conversation: Conversation) -> None:
        self._core = core
        self._conversation = conversation
        self._asked: dict[str, _Asked] = {}

    def ask(self, item_id: str, audio: Samples) -> None:
        """Have the words of `audio`, at the engine's input rate, found for this item."""
        engine = self._core.engine
        if engine.duplex and not engine.transcribes:
            return
        asked = self._asked.setdefault(item_id, _Asked())
        asked.revision += 1
        asked.answer = None
        setting = self._core.config.audio.input.transcription
        self._core.out.put(
            Transcribe(
                item_id=item_id,
                revision=asked.revision,
                audio=audio,
                language=setting.language if setting else None,
                prompt=setting.prompt if setting else None,
            )
        )

    def commit(self, item_id: str, seconds: float) -> None:
        """The item has joined the conversation: its words may be told."""
        if not self._core.engine.transcribes:
            self.drop(item_id)
            return
        asked = self._asked.setdefault(item_id, _Asked())
        asked.seconds = seconds
        self._tell(item_id, asked)

    def drop(self, item_id: str) -> None:
        """The item will never be committed."""
        self._asked.pop(item_id, None)

    def hear(self, event: Transcript | TranscriptFailed) -> bool:
        """The engine's answer; whether it is the final one to what was asked last."""
        if not self._core.engine.transcribes:
            return False
        asked = self._asked.get(event.item_id)
        if asked is None or event.revision != asked.revision or (isinstance(event, Transcript) and not event.final):
            return False
        asked.answer = event
        self._tell(event.item_id, asked)
        return True

    def _tell(self, item_id: str, asked: _Asked) -> None:
        if asked.seconds is None or asked.answer is None:
            return
        del self._asked[item_id]
        if item_id not in self._conversation:
            return
        wanted = self._core.config.audio.input.transcription is not None
        if isinstance(asked.answer, TranscriptFailed):
            self._conversation.set_transcript(item_id, "")
            if wanted:
                detail = ErrorDetail(type="server_error", code="transcription_failed", message=asked.answer.message)
                self._core.out.send(TranscriptionFailed(item_id=item_id, content_index=0, error=detail))
            return
        text = asked.answer.text
        self._conversation.set_transcript(item_id, text)
        if not wanted:
            return
        if text:
            self._core.out.send(TranscriptionDelta(item_id=item_id, content_index=0, delta=text))
        usage = DurationUsage(seconds=round(asked.seconds, 3))
        self._core.out.send(TranscriptionCompleted(item_id=item_id, content_index=0, transcript=text, usage=usage))
