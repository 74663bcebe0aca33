"""Cuts the text of a reply, as it is written, into clauses that a voice can speak one after the other.

The first clause is short, because its audio is what the listener waits for; the ones after it end where a speaker
would pause, because audio is already playing and whole clauses sound better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.embedded.spoken import ABBREVIATIONS

_CLOSERS = "\"')]\u2019\u201d"
_OPENERS = "\"'([\u2018\u201c"
_SENTENCE_END = re.compile(rf"[.!?…]+[{re.escape(_CLOSERS)}]*(?=\s)")
_PAUSE = re.compile(rf"[,;:\u2013\u2014][{re.escape(_CLOSERS)}]*(?=\s)")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseOptions:
    """Bounds, in words: the first clause may end at a pause from `first_words` on, a later one from `later_words` on.

    No clause is longer than `first_most` or `later_most`: one without punctuation is cut between words.
    """

    first_words: int = 2
    first_most: int = 7
    later_words: int = 8
    later_most: int = 24


@dataclass(frozen=True, slots=True)
class Clause:
    """Text to speak, with its white space, and the position in the reply at which it ends (characters)."""

    text: str
    end: int


class ClauseCutter:
    """Takes the text as it is written; gives clauses that join to exactly that text."""

    def __init__(self, options: ClauseOptions | None = None) -> None:
        self._options = options or ClauseOptions()
        self._pending = ""
        self._end = 0

    def push(self, text: str) -> list[Clause]:
        """The clauses that `text` completes."""
        self._pending += text
        clauses = []
        while cut := self._find_cut():
            clauses.append(self._take(cut))
        return clauses

    def flush(self) -> list[Clause]:
        """What is left at the end of the reply; a rest of white space only is a clause without words."""
        return [self._take(len(self._pending))] if self._pending else []

    def _take(self, cut: int) -> Clause:
        text, self._pending = self._pending[:cut], self._pending[cut:]
        self._end += cut
        return Clause(text, self._end)

    def _find_cut(self) -> int | None:
        """Where the next clause ends, after the white space that follows it; None while that is not known."""
        ends = [match.end() for match in _SENTENCE_END.finditer(self._pending) if not self._is_abbreviation(match)]
        least = self._options.later_words if self._end else self._options.first_words
        ends += [match.end() for match in _PAUSE.finditer(self._pending) if self._words(match.start()) >= least]
        longest = self._longest()
        if longest is not None:
            ends.append(longest)
        return min((self._after_space(end) for end in ends), default=None)

    def _is_abbreviation(self, end: re.Match[str]) -> bool:
        """Whether a full stop belongs to the word: "Dr.", an initial, or the number of an enumeration."""
        if not end.group().startswith(".") or len(end.group()) > 1:
            return False
        word = self._pending[: end.start()].rsplit(maxsplit=1)[-1:] or [""]
        bare = word[0].lstrip(_OPENERS).lower()
        is_initial = len(bare) == 1 and bare.isalpha() and bare != "i"
        return bare in ABBREVIATIONS or is_initial or (bare.isdigit() and self._words(end.start()) == 1)

    def _words(self, end: int) -> int:
        return len(_WORD.findall(self._pending, 0, end))

    def _longest(self) -> int | None:
        words = list(_WORD.finditer(self._pending))
        most = self._options.later_most if self._end else self._options.first_most
        return words[most - 1].end() if len(words) > most else None

    def _after_space(self, end: int) -> int:
        while end < len(self._pending) and self._pending[end].isspace():
            end += 1
        return end
