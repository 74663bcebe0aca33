"""What a patch changes, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.config import AudioConfig, PcmuFormat, SemanticVad, ServerVad, SessionConfig
from streaming.errors import PeerError
from streaming.merge_patch import merge_patch
from streaming.schema import from_json, to_json


def patched(patch: Mapping[str, object]) -> SessionConfig:
    return from_json(SessionConfig, merge_patch(to_json(SessionConfig()), patch))


def test_an_absent_field_stays() -> None:
    config = patched({"audio": {"output": {"voice": "nova"}}, "instructions": "Be brief."})
    assert config.audio.output.voice == "nova"
    assert config.instructions == "Be brief."
    assert config.audio.input == AudioConfig().input


def test_null_clears() -> None:
    assert patched({"audio": {"input": {"turn_detection": None}}}).audio.input.turn_detection is None
    with pytest.raises(PeerError):
        patched({"audio": None})


def test_a_changed_type_replaces_the_object() -> None:
    base = to_json(SessionConfig())
    vad = merge_patch(
        base, {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}}}
    )
    assert from_json(SessionConfig, vad).audio.input.turn_detection == ServerVad(silence_duration_ms=900)
    finer = merge_patch(vad, {"audio": {"input": {"turn_detection": {"threshold": 0.25}}}})
    expected = ServerVad(silence_duration_ms=900, threshold=0.25)
    assert from_json(SessionConfig, finer).audio.input.turn_detection == expected
    back = merge_patch(finer, {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}})
    assert from_json(SessionConfig, back).audio.input.turn_detection == SemanticVad(eagerness="low")
    mu_law = merge_patch(base, {"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    assert from_json(SessionConfig, mu_law).audio.input.format == PcmuFormat()


def test_the_base_is_left_alone() -> None:
    base = to_json(SessionConfig())
    before = json.dumps(base)
    merge_patch(base, {"audio": {"input": {"format": {"type": "audio/pcma"}}}, "tools": []})
    assert json.dumps(base) == before


json_objects = st.recursive(
    st.dictionaries(st.sampled_from(["a", "b", "type"]), st.none() | st.integers(0, 2), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "type"]), inner, max_size=3),
    max_leaves=6,
)


@given(json_objects, json_objects)
def test_a_patch_is_in_force_once_applied(base: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge_patch(base, patch)
    assert merge_patch(merged, patch) == merged
    assert merge_patch(base, {}) == base
    assert merged.keys() == base.keys() | patch.keys()
    assert all(merged[name] == base[name] for name in base.keys() - patch.keys())
