"""pipecat's OpenAI Realtime service, unmodified, takes a turn."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.prerequisites import ROOT, absent

pytestmark = pytest.mark.timeout(600)

PYTHON = ROOT / ".venv-pipecat" / "bin" / "python"


def converse(server: str, *recordings: Path) -> Any:
    if not PYTHON.exists():
        absent("pipecat is not installed: run `make test-setup`")
    url = server.replace("http", "ws", 1) + "/v1/realtime"
    script = Path(__file__).with_name("pipecat_turn.py")
    command = [str(part) for part in (PYTHON, script, url, *recordings)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.models
def test_pipecat_completes_a_turn(server: str, recording: Path) -> None:
    seen = converse(server, recording)
    assert seen["errors"] == []
    assert seen["user"]
    assert seen["reply"]
    assert seen["audio_seconds"] > 0.3
    assert seen["context"] == [
        {"role": "user", "content": seen["user"]},
        {"role": "assistant", "content": seen["reply"]},
    ]


@pytest.mark.models
def test_pipecat_interrupts_a_reply(talkative: str, recording: Path) -> None:
    """pipecat takes any error for fatal, and truncates the reply by its own clock: neither may get in the way."""
    seen = converse(talkative, recording, recording)
    assert seen["errors"] == []
    assert seen["turns"] >= 2
    assert seen["context"][-1]["role"] == "assistant"


def test_pipecats_environment_has_no_torch() -> None:
    names = [line.split("==")[0] for line in (ROOT / "requirements" / "pipecat.txt").read_text().splitlines()]
    assert "pipecat-ai" in names
    assert not {"torch", "torchaudio", "nvidia-cuda-runtime-cu12"} & set(names)
