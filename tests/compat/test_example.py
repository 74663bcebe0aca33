"""The example of docs/examples does what it says it does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clients.audio_files import read_wav
from docs.examples.openai_sdk import RATE, main
from tests.compat.server_that_says_much import MUCH

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]


def test_a_question_is_answered(
    server: str, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reply.wav"
    assert main([str(recording), "--url", f"{server}/v1", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert sorted(lines) == [
        "Muse: This is a scripted reply.",
        next(line for line in lines if re.fullmatch(r"first audio \d+ ms after the end of the question", line)),
        "you:  scripted words",
    ]
    assert len(read_wav(out, rate=RATE)) == pytest.approx(1.5 * RATE, abs=RATE / 100)


def test_an_answer_is_interrupted(talkative: str, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(recording), "--interrupt", str(recording), "--after", "0", "--url", f"{talkative}/v1"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    moments = [int(found) for found in re.findall(r"  [a-z ,]+: (-?\d+) ms", said.out)]
    ducked, decided, last = moments
    assert 0 < ducked < last <= decided + 1
    kept = re.search(r"kept in the conversation: (\d\.\d+) s of the (\d\.\d+) s sent", said.out)
    assert kept is not None
    assert 0 < float(kept[1]) < float(kept[2]) < MUCH.seconds
    assert said.out.count("you:  scripted words") == 2


def test_a_server_that_is_not_there_is_an_error(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recording), "--url", "http://127.0.0.1:9/v1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
