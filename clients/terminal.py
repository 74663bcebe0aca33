"""Captions and latency for a terminal; plain lines where the output is a file or a pipe."""

from __future__ import annotations

from typing import TextIO

from clients.realtime import Event
from clients.turns import latency_of
from streaming import server_events as events
from streaming.timeline import PARTS
from streaming.wire.moshi import Message, Text, WireError

_BAR = 40  # columns of the latency bar
_COLOURS = dict(zip(PARTS, (33, 90, 36, 35, 34, 32, 96, 95, 92, 31), strict=True))  # ANSI foregrounds
_DIM, _BOLD = 2, 1


class Terminal:
    """Writes what both sides say as they say it, and after each turn how long the answer took and why."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._reply_begun = False

    def show(self, event: Event) -> None:
        """Take the next event of the session."""
        match event:
            case events.TranscriptionCompleted():
                self._line("you", event.transcript)
            case events.TranscriptionFailed():
                self._line("you", f"({event.error.message})")
            case events.TextDelta() | events.AudioTranscriptDelta():
                self._reply_goes_on(event.delta)
            case events.TextDone():
                self._reply_ends(event.text)
            case events.AudioTranscriptDone():
                self._reply_ends(event.transcript)
            case events.ResponseDone():
                self._response_ends(event.response)
            case events.ErrorEvent():
                self._line("error", event.error.message)
            case events.Notice():
                self._line("muse", f"({event.message})")

    def overhear(self, message: Message) -> None:
        """Take the next message of a conversation on Moshi's wire, which does not say where an answer ends."""
        match message:
            case Text():
                self._reply_goes_on(message.text)
            case WireError():
                self._line("error", message.message)

    def answered(self, words: str, wait: float | None) -> None:
        """An answer on Moshi's wire is over; it began `wait` seconds after the user's last word."""
        self._reply_ends(words)
        if wait is not None:
            self.note(f"      {wait * 1000:.0f} ms")

    def note(self, text: str) -> None:
        """A remark of the client's own."""
        self._write(self._styled(text, _DIM) + "\n")

    def _reply_goes_on(self, words: str) -> None:
        if self._live:
            if not self._reply_begun:
                self._write(self._name("muse"))
            self._write(_printable(words))
            self._reply_begun = True

    def _reply_ends(self, words: str) -> None:
        if self._reply_begun:
            self._write("\n")
            self._reply_begun = False
        else:
            self._line("muse", words)

    def _response_ends(self, response: events.Response) -> None:
        details = response.status_details
        if response.status == "cancelled":
            self.note("      (interrupted)")
        elif response.status == "incomplete":
            self.note("      (cut short)")
        elif response.status == "failed":
            self._line("error", details.error.message if details and details.error else "the reply failed")
        latency = latency_of(response)
        if latency.get("total_ms"):
            self._write(f"      {self._bar(latency)}\n")

    def _bar(self, latency: dict[str, float]) -> str:
        total = latency["total_ms"]
        parts = [(part, latency.get(f"{part}_ms", 0.0)) for part in PARTS]
        named = " · ".join(f"{self._styled(part, _COLOURS[part])} {ms:.0f}" for part, ms in parts if ms >= 0.5)
        if not self._live:
            return f"{total:.0f} ms: {named}"
        blocks = "".join(self._styled("█" * round(ms / total * _BAR), _COLOURS[part]) for part, ms in parts)
        return f"{self._styled(f'{total:.0f} ms', _BOLD)} {blocks} {named}"

    def _line(self, who: str, words: str) -> None:
        if self._reply_begun:
            self._write("\n")
            self._reply_begun = False
        self._write(f"{self._name(who)}{_printable(words).strip()}\n")

    def _name(self, who: str) -> str:
        return self._styled(f"{who:>5} ", _BOLD)

    def _styled(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._live and text else text

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _printable(text: str) -> str:
    """Words from the network without control characters, which could command the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
