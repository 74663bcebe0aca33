r"""A program of its own: turns text to phonemes with eSpeak NG, for whoever writes to its standard input.

eSpeak NG is under the GPL, so that it is loaded in this process only (docs/adr/0001-espeak-in-its-own-process.md).

Requests and answers are lines of JSON: `{"voice": "en-us", "text": "Do you?"}` is answered with
`{"phonemes": "d\u028a ju\u02d0?"}` or `{"error": "..."}`. The program ends when its input does.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

_SYNCHRONOUS = 2
_UTF8 = 1
_IPA = 2
_DO_NOT_EXIT = 0x8000
# The library reads past a clause's punctuation, to the first letter of the next word.
_PAUSE = re.compile(r"([,.;:!?\u2013\u2014\u2026])[\"')\]}\u2019\u201d]*(?:\s+\S?)?$")
_SPOKEN_PAUSES = {"\u2013": ",", "\u2014": ",", "\u2026": "."}


class Espeak:
    """The library, with one voice at a time. Raises OSError where it or its data cannot be found."""

    def __init__(self) -> None:
        library, data = _locate()
        self._library = ctypes.CDLL(library)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        if self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT) < 0:
            raise OSError("eSpeak NG could not be initialised")
        self._voice = ""

    def phonemes(self, voice: str, text: str) -> str:
        """IPA, with the punctuation at which a speaker pauses. Raises ValueError where there is no such voice."""
        if voice != self._voice:
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"no voice {voice}")
            self._voice = voice
        source = text.replace("\0", " ").encode()
        buffer = ctypes.create_string_buffer(source)
        start = ctypes.addressof(buffer)
        position = ctypes.c_void_p(start)
        clauses = []
        # Each call reads one clause and moves the position past it; its punctuation is not among the phonemes.
        while position.value is not None:
            begin = position.value - start
            spoken = self._library.espeak_TextToPhonemes(ctypes.byref(position), _UTF8, _IPA).decode().strip()
            end = len(source) if position.value is None else position.value - start
            pause = _PAUSE.search(source[begin:end].decode(errors="ignore"))
            if spoken:
                clauses.append(spoken + (_SPOKEN_PAUSES.get(pause[1], pause[1]) if pause else ""))
        return " ".join(clauses)


def _locate() -> tuple[str, bytes | None]:
    """The library and its data, from the espeakng-loader wheel or else from the system."""
    spec = importlib.util.find_spec("espeakng_loader")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in Path(folder).glob("*espeak-ng.*"):
            return str(library), str(Path(folder) / "espeak-ng-data").encode()
    system = ctypes.util.find_library("espeak-ng")
    if system is None:
        raise OSError("eSpeak NG is not installed: neither the espeakng-loader package nor a system library")
    return system, None


def _answer(espeak: Espeak, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        return {"phonemes": espeak.phonemes(request["voice"], request["text"])}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": str(error)}


def main() -> int:
    """Serve requests until the input ends."""
    try:
        espeak = Espeak()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(_answer(espeak, line)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
