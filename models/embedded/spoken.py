"""Makes written text fit to be spoken: no markdown, no lists, no pictures, one line."""

from __future__ import annotations

import re
import unicodedata

TITLES = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs"})
ABBREVIATIONS = TITLES | {"etc", "e.g", "i.e", "a.m", "p.m", "u.s", "u.k", "approx"}
"""Words, in lower case, whose full stop does not end a sentence."""

_TITLE_STOP = re.compile(rf"\b({'|'.join(sorted(TITLES))})\.(?=\s)", re.IGNORECASE)
_LIST_MARK = re.compile(r"(?:[-+*\u2022]|\d{1,2}[.)])[ \t]+")
_MAYBE_LIST_MARK = re.compile(r"(?:[-+*\u2022]|\d{1,2}[.)]?)?[ \t]*")
_MARKDOWN = frozenset("*#`_~|<>{}[]\\^")


def without_title_stops(text: str) -> str:
    """ "Dr. Who" as "Dr Who": the stop would be spoken as the end of a sentence."""
    return _TITLE_STOP.sub(r"\1", text)


class SpokenText:
    """Cleans a reply as it is written. What `push` gives joins to the reply as it is to be spoken and shown.

    Characters that have no sound are left out, a line's list mark too, and white space becomes one space. A text
    whose lines end without punctuation gets a full stop there.
    """

    def __init__(self) -> None:
        self._line_start = ""
        self._at_line_start = True
        self._last = ""

    def push(self, delta: str) -> str:
        """The speakable part of what has come so far; a mark that may begin a list is held back until it is known."""
        return "".join(self._take(character) for character in delta)

    def flush(self) -> str:
        """What was held back, at the end of the reply."""
        held, self._line_start, self._at_line_start = self._line_start, "", False
        return "".join(self._say(character) for character in held).rstrip()

    def _take(self, character: str) -> str:
        if character in "\r\n":
            said = self.flush() + self._end_line()
            self._at_line_start = True
            return said
        if not self._at_line_start:
            return self._say(character)
        self._line_start += character
        if _MAYBE_LIST_MARK.fullmatch(self._line_start):
            return ""
        held, self._line_start, self._at_line_start = self._line_start, "", False
        return "".join(self._say(one) for one in _LIST_MARK.sub("", held, count=1))

    def _end_line(self) -> str:
        if not self._last or self._last == " ":
            return ""
        said = " " if self._last in ".!?,;:\"'" else ". "
        self._last = " "
        return said

    def _say(self, character: str) -> str:
        if character.isspace():
            character = " "
        silent = character in _MARKDOWN or unicodedata.category(character) in ("So", "Sk", "Cf", "Cc", "Co", "Cs", "Cn")
        if silent or unicodedata.name(character, "").startswith("VARIATION SELECTOR"):
            return ""
        if character == " " and self._last in ("", " "):
            return ""
        self._last = character
        return character
