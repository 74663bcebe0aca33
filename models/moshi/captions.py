"""From text tokens to words, as they join on: one token a frame, most of them padding."""

from __future__ import annotations

import codecs
from typing import Any

Pieces = tuple[str | bytes, ...]
"""What each token adds: words, which begin with their space, or a byte of a character; "" for one that says nothing."""

_SPACE = "▁"


def pieces(tokenizer: Any, padding: frozenset[int]) -> Pieces:
    """Every token's piece. `tokenizer` is a SentencePieceProcessor; `padding` are tokens that stand for no text."""
    return tuple("" if token in padding else _piece(tokenizer, token) for token in range(tokenizer.vocab_size()))


def _piece(tokenizer: Any, token: int) -> str | bytes:
    name: str = tokenizer.IdToPiece(token)
    if tokenizer.IsByte(token):
        return bytes([int(name[3:5], 16)])
    return "" if tokenizer.IsControl(token) or tokenizer.IsUnknown(token) else name.replace(_SPACE, " ")


class Captions:
    """One conversation's words.

    Characters that are not among the pieces come as single UTF-8 bytes, and are given once they are whole.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that `token` adds; nothing for what is no token."""
        piece = self._pieces[token] if 0 <= token < len(self._pieces) else ""
        if isinstance(piece, bytes):
            return self._bytes.decode(piece)
        return self._bytes.decode(b"", final=True) + piece if piece else ""  # bytes cut short become one mark
