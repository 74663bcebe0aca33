from pathlib import Path

import pytest

from server.replay import main
from streaming.trace import Recorder
from tests.streaming.simulation import Simulation


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    lines: list[str] = []
    sim = Simulation(make=lambda **made_from: Recorder(lines.append, **made_from))  # type: ignore[arg-type]
    sim.speak(600)
    sim.silence(800)
    path = tmp_path / "call.trace.jsonl"
    path.write_text("".join(lines))
    return path


def test_a_trace_that_replays_is_told(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(trace)]) == 0
    assert "the same" in capsys.readouterr().out


def test_one_that_does_not_is_named_with_its_line(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = trace.with_name("other.jsonl")
    other.write_text(trace.read_text().replace('"speech_started"', '"x"').replace("item_t_2", "item_t_3"))
    assert main([str(other), str(trace)]) == 1
    said = capsys.readouterr()
    assert f"{other}: line " in said.err
    assert f"{trace}: the same" in said.out


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
