"""Recorded conversations, one file each, written by a thread of their own: a slow or full disk never delays a call."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

_CAPACITY = 10_000


class TraceFiles:
    """Appends lines to `<directory>/<session>.trace.jsonl`, readable by this user only.

    A line that finds the queue full, or the disk, is dropped and told to `on_drop`. The call goes on; after a line that
    found the queue full its recording does not, since a trace with a gap cannot be replayed.
    """

    def __init__(self, directory: Path, on_drop: Callable[[], None] = lambda: None) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._on_drop = on_drop
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue(_CAPACITY)
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def open(self, session_id: str) -> Callable[[str], None]:
        """A function that writes one line, which ends in a newline, to the session's file, and never waits."""
        whole = True

        def write(line: str) -> None:
            nonlocal whole
            if not whole:
                return
            try:
                self._lines.put_nowait((session_id, line))
            except queue.Full:
                whole = False
                self._on_drop()

        return write

    def close(self) -> None:
        """Write what is queued, and stop."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._lines.get()) is not None:
            batch: dict[str, list[str]] = defaultdict(list)
            session_id, line = first
            batch[session_id].append(line)
            over = self._take_waiting(batch)
            for session_id, lines in batch.items():
                self._append(session_id, lines)
            if over:
                return

    def _take_waiting(self, batch: dict[str, list[str]]) -> bool:
        """Move what is queued into `batch`; True when the end was among it."""
        while True:
            try:
                waiting = self._lines.get_nowait()
            except queue.Empty:
                return False
            if waiting is None:
                return True
            batch[waiting[0]].append(waiting[1])

    def _append(self, session_id: str, lines: list[str]) -> None:
        path = self._directory / f"{session_id}.trace.jsonl"
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            _log.error("cannot record", extra={"fields": {"session": session_id, "error": error.strerror}})
            for _ in lines:
                self._on_drop()
