"""A container's answer, read as it comes: a JSON object of little text and much audio.

The audio is decoded piece by piece and the rest parsed at the end, so that neither memory nor the time that one piece
takes is the container's to choose.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass
from enum import Enum, auto

from models.container.npy import NpyReader
from streaming.engine import Samples
from streaming.errors import EngineError

MOST_JSON = 64 * 1024
"""Bytes of an answer beside its audio."""

# In a JSON string a quote has a backslash before it, so that this is a key wherever it is found.
_AUDIO = re.compile(rb'"audio_data"[ \t\r\n]{0,4}:[ \t\r\n]{0,4}"')
_LONGEST_MATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a container answered; None for a field that it left out. `audio` has shape (T,), at the request's rate."""

    text: str | None = None
    audio: Samples | None = None


class MalformedAnswerError(EngineError):
    """An answer that cannot be read. The message holds nothing of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="container_failed")


class _In(Enum):
    HEAD = auto()
    AUDIO = auto()
    TAIL = auto()


class AnswerReader:
    """Takes a body piece by piece. Its audio may have `most_samples`."""

    def __init__(self, most_samples: int) -> None:
        self._npy = NpyReader(most_samples)
        self._in = _In.HEAD
        self._json = bytearray()  # the body without the audio
        self._base64 = b""  # less than four characters
        self._padded = False

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises EngineError as soon as they cannot be what is expected."""
        if self._in is _In.HEAD:
            data = self._head(data)
        if self._in is _In.AUDIO:
            encoded, quote, rest = data.partition(b'"')
            self._decode(encoded)
            if not quote:
                return
            self._in, data = _In.TAIL, quote + rest
        self._json += data
        if len(self._json) > MOST_JSON:
            raise MalformedAnswerError("the answer is too long")

    def finish(self) -> Answer:
        """The whole. Raises EngineError where it is malformed or has broken off."""
        if self._in is _In.AUDIO or self._base64:
            raise MalformedAnswerError("the answer breaks off in its audio")
        try:
            fields = json.loads(self._json)
        except (ValueError, RecursionError):
            raise MalformedAnswerError("the answer is not JSON") from None
        if not isinstance(fields, dict):
            raise MalformedAnswerError("the answer is not a JSON object")
        text = fields.get("text")
        if not isinstance(text, str | None):
            raise MalformedAnswerError("the answer's text is not a string")
        spoken = self._in is _In.TAIL
        if fields.get("audio_data") != ("" if spoken else None):
            raise MalformedAnswerError("the answer's audio_data is not one string")
        return Answer(
            # A lone surrogate can be written in JSON, and nowhere else.
            text=None if text is None else text.encode(errors="replace").decode(),
            audio=self._npy.finish() if spoken else None,
        )

    def _head(self, data: bytes) -> bytes:
        """Keep what comes before the audio; returns what does not belong there."""
        searched = max(0, len(self._json) - _LONGEST_MATCH)
        self._json += data
        found = _AUDIO.search(self._json, searched)
        if found is None:
            return b""
        rest = bytes(self._json[found.end() :])
        del self._json[found.end() :]
        self._in = _In.AUDIO
        return rest

    def _decode(self, encoded: bytes) -> None:
        encoded = self._base64 + encoded
        whole = len(encoded) // 4 * 4
        encoded, self._base64 = encoded[:whole], encoded[whole:]
        if not encoded:
            return
        try:
            data = binascii.a2b_base64(encoded, strict_mode=True)
        except binascii.Error:
            raise MalformedAnswerError("the answer's audio is not base64") from None
        if self._padded:
            raise MalformedAnswerError("the answer's audio goes on after its end")
        self._padded = encoded.endswith(b"=")
        self._npy.feed(data)
