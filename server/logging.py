"""Structured one-line logs that never wait for their sink.

A record's fields are passed as `extra={"fields": {...}}`. Audio, transcripts and keys are never logged: callers pass
ids, counts and codes only, and the libraries that would log request lines, whose queries can hold keys, are silenced
below WARNING.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

_CAPACITY = 10_000
_REQUEST_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "websockets", "httpx", "httpcore")
_TALKATIVE = ("alembic", "bittensor", "ray")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the record's fields, and the error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`time level message key=value ...`, and the traceback, on its own lines, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = "".join(f" {key}={value}" for key, value in getattr(record, "fields", {}).items())
        line = f"{time} {record.levelname.lower()} {_one_line(record.getMessage() + fields)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class DroppingQueueHandler(QueueHandler):
    """Hands records to a listener's thread; drops and counts them when the sink cannot keep up."""

    def __init__(self, records: queue.Queue[logging.LogRecord], on_drop: Callable[[], None]) -> None:
        super().__init__(records)
        self._on_drop = on_drop

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue the record, or drop it."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._on_drop()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as it is: its formatter runs in this process."""
        return record


def start_logging(
    level: str, *, as_json: bool, on_drop: Callable[[], None] = lambda: None, stream: TextIO | None = None
) -> QueueListener:
    """Send all logs through one bounded queue to `stream` (standard error). Stop the returned listener at exit."""
    sink = logging.StreamHandler(stream or sys.stderr)
    sink.setFormatter(JsonFormatter() if as_json else TextFormatter())
    records: queue.Queue[logging.LogRecord] = queue.Queue(_CAPACITY)
    listener = QueueListener(records, sink)
    root = logging.getLogger()
    root.handlers[:] = [DroppingQueueHandler(records, on_drop)]
    root.setLevel(level.upper())
    for name in (*_REQUEST_LOGGERS, *_TALKATIVE):
        logging.getLogger(name).setLevel(logging.WARNING)
    listener.start()
    return listener


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
