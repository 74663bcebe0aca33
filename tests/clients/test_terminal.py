"""Captions and the latency bar, live and plain."""

from __future__ import annotations

import io
import re

from clients.terminal import Terminal
from streaming import server_events as events
from streaming.server_events import Response


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def words(delta: str) -> events.AudioTranscriptDelta:
    return events.AudioTranscriptDelta(
        response_id="r", item_id="i", output_index=0, content_index=0, delta=delta, event_id="e"
    )


def all_words(transcript: str) -> events.AudioTranscriptDone:
    return events.AudioTranscriptDone(
        response_id="r", item_id="i", output_index=0, content_index=0, transcript=transcript, event_id="e"
    )


def done(**response: object) -> events.ResponseDone:
    return events.ResponseDone(response=Response(id="r", **response), event_id="e")  # type: ignore[arg-type]


LATENCY = {"muse.latency": '{"total_ms":400,"endpointing_ms":300,"queue_ms":0,"think_ms":100}'}


def test_a_screen_shows_words_as_they_come_and_the_wait_as_a_bar() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    for event in (words("Hel"), words("lo."), all_words("Hello."), done(status="completed", metadata=LATENCY)):
        terminal.show(event)
    caption, bar = re.sub(r"\x1b\[\d+m", "", screen.getvalue()).splitlines()
    assert caption == " muse Hello."
    assert bar == f"      400 ms {'█' * 40} endpointing 300 · think 100"


def test_a_file_gets_whole_lines() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    for event in (words("Hel"), all_words("Hello."), done(status="cancelled")):
        terminal.show(event)
    terminal.note("over")
    assert out.getvalue().splitlines() == [" muse Hello.", "      (interrupted)", "over"]


def test_words_cannot_command_the_terminal() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    terminal.show(words("a\x1b[2Jb"))
    terminal.show(events.ErrorEvent(error=events.ErrorDetail(type="t", message="c\x07\nd"), event_id="e"))
    assert "\x1b[2J" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()
    assert "c  d" in screen.getvalue()
