"""Weights from the hub's door, as the model's loader wants them."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from models.cli import main
from models.hub.errors import WeightsRefusedError
from models.hub.safetensors_header import check_tensors
from models.hub.settings import HubSettings
from models.hub.snapshot import resolve
from models.moshi.files import read_checkpoint
from models.moshi.tensors import expected_tensors
from streaming.wire.moshi import RATE
from tests.models.hub.fake_hub import COMMIT, REPOSITORY, FakeHub, serving


def test_a_bare_name_is_pinned_downloaded_verified_and_spoken_with(
    tiny_moshi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way of `try` from a hub, which is one on loopback."""
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    with wave.open(str(question), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(2 * RATE))
    files = {path.relative_to(tiny_moshi).as_posix(): path.read_bytes() for path in tiny_moshi.rglob("*.*")}
    hub = FakeHub(files=files, locations={name: f"/cdn/{name}" for name in files})
    command = ["--in", str(question), "--out", str(answer), "--device", "cpu", "--extra-seconds", "0"]
    with serving(hub):
        for name, value in {"ENDPOINT": hub.endpoint, "ALLOW_LOOPBACK": "1", "CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(f"MUSE_HUB_{name}", value)
        assert main(["try", "--model", REPOSITORY, *command]) == 0
    reference = f"{REPOSITORY}@{COMMIT}"
    assert capsys.readouterr().out.startswith(f"weights: {reference}\n")
    first = answer.read_bytes()
    assert main(["try", "--model", reference, *command]) == 0, "what was printed needs no hub"
    assert answer.read_bytes() == first


@pytest.mark.parametrize("checkpoint", ["tiny_moshi", "tiny_personaplex"])
def test_a_checkpoint_passes_and_its_headers_hold_the_tensors_of_its_configuration(
    checkpoint: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    directory = request.getfixturevalue(checkpoint)
    snapshot = resolve(f"file:{directory}", settings=HubSettings(cache=tmp_path))
    assert snapshot.directory == directory
    expected = expected_tensors(read_checkpoint(snapshot.directory))
    assert {path.name for path in expected} <= snapshot.files.keys()
    for path, tensors in expected.items():
        check_tensors(path, tensors)
    lm, mimi = expected
    with pytest.raises(WeightsRefusedError, match=r"not the tensors of this model: missing: .* and \d+ more"):
        check_tensors(lm, expected[mimi])
