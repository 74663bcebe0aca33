"""From text tokens to words, as they join on: one token a frame, most of them padding."""

from __future__ import annotations

import codecs
from typing import Any

_SPACE = "▁"


class Captions:
    """One conversation's words. `tokenizer` is a SentencePieceProcessor; `padding` are tokens that stand for no text.

    Characters that are not among the pieces come as single UTF-8 bytes, and are given once they are whole.
    """

    def __init__(self, tokenizer: Any, padding: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._padding = padding
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that `token` adds; a word begins with its space. Nothing for padding, control and unknown tokens."""
        if not 0 <= token < self._tokenizer.vocab_size() or token in self._padding:
            return ""
        if self._tokenizer.IsByte(token):
            return self._bytes.decode(bytes([int(self._tokenizer.IdToPiece(token)[3:5], 16)]))
        if self._tokenizer.IsControl(token) or self._tokenizer.IsUnknown(token):
            return ""
        piece: str = self._tokenizer.IdToPiece(token).replace(_SPACE, " ")
        return self._bytes.decode(b"", final=True) + piece  # bytes that were cut short become one mark
