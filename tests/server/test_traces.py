import queue
import threading
from pathlib import Path

import pytest

from server import traces as traces_module
from server.traces import TraceFiles


def test_sessions_have_files_of_their_own_in_order(tmp_path: Path) -> None:
    traces = TraceFiles(tmp_path)
    one, two = traces.open("one"), traces.open("two")
    for number in range(100):
        one(f"{number}\n")
        two(f"{-number}\n")
    traces.close()
    assert (tmp_path / "one.trace.jsonl").read_text().split() == [str(n) for n in range(100)]
    assert (tmp_path / "two.trace.jsonl").read_text().split() == [str(-n) for n in range(100)]


def test_a_slow_disk_ends_the_recording_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces_module, "_CAPACITY", 3)
    gate = threading.Event()
    slow = queue.Queue.get

    def get(self: queue.Queue[object], *args: object, **kwargs: object) -> object:
        gate.wait(60)  # which only a hang reaches
        return slow(self)

    dropped: list[int] = []
    monkeypatch.setattr(queue.Queue, "get", get)
    traces = TraceFiles(tmp_path, lambda: dropped.append(1))
    write = traces.open("s")
    for number in range(10):
        write(f"{number}\n")
    gate.set()
    traces.close()
    assert len(dropped) == 1
    assert (tmp_path / "s.trace.jsonl").read_text().split() == ["0", "1", "2"]


def test_a_full_disk_is_counted(tmp_path: Path) -> None:
    dropped: list[int] = []
    traces = TraceFiles(tmp_path, lambda: dropped.append(1))
    (tmp_path / "s.trace.jsonl").mkdir()
    write = traces.open("s")
    write("1\n")
    traces.close()
    assert dropped == [1]
