"""pipecat's OpenAI Realtime service, unmodified, takes a turn."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-pipecat" / "bin" / "python"


@pytest.mark.models
def test_pipecat_completes_a_turn(server: str, recording: Path) -> None:
    assert PYTHON.exists(), "make pipecat sets its environment up"
    url = server.replace("http", "ws", 1) + "/v1/realtime"
    script = Path(__file__).with_name("pipecat_turn.py")
    result = subprocess.run([PYTHON, script, url, recording], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    turn = json.loads(result.stdout)
    assert turn["errors"] == []
    assert turn["over"]
    assert turn["user"]
    assert turn["reply"]
    assert turn["audio_seconds"] > 0.3
    assert turn["context"] == [
        {"role": "user", "content": turn["user"]},
        {"role": "assistant", "content": turn["reply"]},
    ]


def test_pipecats_environment_has_no_torch() -> None:
    names = [line.split("==")[0] for line in (ROOT / "requirements" / "pipecat.txt").read_text().splitlines()]
    assert "pipecat-ai" in names
    assert not {"torch", "torchaudio", "nvidia-cuda-runtime-cu12"} & set(names)
