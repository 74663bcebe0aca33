from __future__ import annotations

import io
import json
import logging
import queue
from collections.abc import Iterator

import pytest

from server.logging import DroppingQueueHandler, start_logging


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(*, as_json: bool, level: str = "info") -> list[str]:
    stream = io.StringIO()
    listener = start_logging(level, as_json=as_json, stream=stream)
    log = logging.getLogger("server.test")
    log.info("hello\nworld", extra={"fields": {"session": "s1", "code": 1000}})
    log.debug("not shown")
    logging.getLogger("uvicorn.error").info('"WebSocket /v1/realtime?api_key=secret" [accepted]')
    try:
        int("broken")
    except ValueError:
        log.exception("failed")
    listener.stop()
    return stream.getvalue().splitlines()


def test_json_is_one_object_a_line() -> None:
    first, second = (json.loads(line) for line in logged(as_json=True))
    assert first["message"] == "hello\nworld"
    assert (first["level"], first["logger"], first["session"], first["code"]) == ("info", "server.test", "s1", 1000)
    assert "ValueError: invalid literal" in second["error"]


def test_text_is_one_line_a_record() -> None:
    lines = logged(as_json=False)
    assert lines[0].endswith(r"info hello\nworld session=s1 code=1000")
    assert "ValueError: invalid literal" in lines[-1]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_request_lines_with_their_keys_are_never_logged(level: str) -> None:
    assert not any("secret" in line for line in logged(as_json=True, level=level))


def test_a_full_queue_drops_and_counts() -> None:
    dropped: list[int] = []
    handler = DroppingQueueHandler(queue.Queue(1), lambda: dropped.append(1))
    for _ in range(3):
        handler.emit(logging.LogRecord("n", logging.INFO, "p", 1, "m", (), None))
    assert len(dropped) == 2
