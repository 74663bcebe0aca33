"""Weights from the hub's door, as the model's loader wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.hub.errors import WeightsRefusedError
from models.hub.safetensors_header import check
from models.hub.settings import HubSettings
from models.hub.snapshot import resolve
from models.moshi.checkpoint import expected_tensors, read_checkpoint


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
        check(path, tensors)
    lm, mimi = expected
    with pytest.raises(WeightsRefusedError, match=r"not the tensors of this model: missing: .* and \d+ more"):
        check(lm, expected[mimi])
