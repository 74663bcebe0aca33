"""The codec between dataclasses and JSON: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.config import AudioConfig, PcmuFormat, SemanticVad, ServerVad, SessionConfig
from streaming.errors import PeerError
from streaming.schema import MAX_DEPTH, MAX_NODES, Within, decode, from_json, merge_patch, to_json


@dataclass(frozen=True, kw_only=True)
class Circle:
    IGNORED_FIELDS: ClassVar = frozenset({"colour"})

    radius: float
    type: Literal["circle"] = "circle"


@dataclass(frozen=True, kw_only=True)
class Label:
    text: str
    type: Literal["label"] = "label"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shapes: tuple[Circle | Label, ...]
    pixels: bytes | None = None
    count: int = 0
    limit: Annotated[int, Within(1, 9)] | Literal["inf"] = "inf"
    visible: bool = True
    extra: Mapping[str, object] = field(default_factory=dict)
    names: Mapping[str, str] | None = None
    centre: Circle | None = None


FULL = Drawing(
    shapes=(Circle(radius=1.5), Label(text="é")),
    pixels=b"\x00\xff",
    count=-3,
    limit=4,
    visible=False,
    extra={"deep": [{"null": None}, 1.5]},
    names={"a": "b"},
    centre=Circle(radius=2.0),
)


def refusal(value: object, *, hint: Any = Drawing) -> PeerError:
    with pytest.raises(PeerError) as caught:
        decode(hint, value, path="drawing")
    return caught.value


def test_a_dataclass_survives_the_way_there_and_back() -> None:
    message = json.loads(json.dumps(to_json(FULL)))
    assert from_json(Drawing, message) == FULL
    assert message["pixels"] == "AP8="
    assert message["shapes"][0] == {"radius": 1.5, "type": "circle"}


def test_none_is_null_or_left_out() -> None:
    drawing = Drawing(shapes=(), extra={"kept": None})
    assert to_json(drawing)["pixels"] is None
    sparse = to_json(drawing, omit_none=True)
    assert "pixels" not in sparse
    assert sparse["extra"] == {"kept": None}


def test_a_whole_number_is_a_float() -> None:
    circle = from_json(Circle, {"radius": 2})
    assert circle.radius == 2.0
    assert isinstance(circle.radius, float)


def test_fields_without_use_are_ignored_by_name() -> None:
    assert from_json(Circle, {"radius": 1.0, "colour": "red"}) == Circle(radius=1.0)


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        ([], "invalid_value", "drawing"),
        (None, "invalid_value", "drawing"),
        ({}, "missing_required_parameter", "drawing.shapes"),
        ({"shapes": [], "shade": 1}, "unknown_parameter", "drawing.shade"),
        ({"shapes": {}}, "invalid_value", "drawing.shapes"),
        ({"shapes": ["circle"]}, "invalid_value", "drawing.shapes[0]"),
        ({"shapes": [{"radius": 1}]}, "missing_required_parameter", "drawing.shapes[0].type"),
        ({"shapes": [{"type": "square"}]}, "invalid_value", "drawing.shapes[0].type"),
        ({"shapes": [{"type": ["circle"]}]}, "invalid_value", "drawing.shapes[0].type"),
        ({"shapes": [{"type": "label"}]}, "missing_required_parameter", "drawing.shapes[0].text"),
        ({"shapes": [{"type": "circle", "radius": True}]}, "invalid_value", "drawing.shapes[0].radius"),
        ({"shapes": [{"type": "circle", "radius": "1"}]}, "invalid_value", "drawing.shapes[0].radius"),
        ({"shapes": [{"type": "circle", "radius": float("nan")}]}, "invalid_value", "drawing.shapes[0].radius"),
        ({"shapes": [{"type": "circle", "radius": 10**400}]}, "invalid_value", "drawing.shapes[0].radius"),
        ({"shapes": [{"type": "label", "text": "\ud800"}]}, "invalid_value", "drawing.shapes[0].text"),
        ({"shapes": [], "pixels": "AP8"}, "invalid_value", "drawing.pixels"),
        ({"shapes": [], "pixels": "AP8=\n"}, "invalid_value", "drawing.pixels"),
        ({"shapes": [], "pixels": "é"}, "invalid_value", "drawing.pixels"),
        ({"shapes": [], "pixels": 7}, "invalid_value", "drawing.pixels"),
        ({"shapes": [], "count": True}, "invalid_value", "drawing.count"),
        ({"shapes": [], "count": 1.0}, "invalid_value", "drawing.count"),
        ({"shapes": [], "limit": 0}, "invalid_value", "drawing.limit"),
        ({"shapes": [], "limit": 10}, "invalid_value", "drawing.limit"),
        ({"shapes": [], "limit": "infinite"}, "invalid_value", "drawing.limit"),
        ({"shapes": [], "limit": None}, "invalid_value", "drawing.limit"),
        ({"shapes": [], "visible": 1}, "invalid_value", "drawing.visible"),
        ({"shapes": [], "extra": [1]}, "invalid_value", "drawing.extra"),
        ({"shapes": [], "extra": {"a": float("inf")}}, "invalid_value", "drawing.extra"),
        ({"shapes": [], "extra": {"\ud800": 1}}, "invalid_value", "drawing.extra"),
        ({"shapes": [], "names": {"a": 1}}, "invalid_value", "drawing.names.a"),
        ({"shapes": [], "centre": {"radius": None}}, "invalid_value", "drawing.centre.radius"),
    ],
)
def test_what_is_wrong_is_named(value: object, code: str, param: str) -> None:
    error = refusal(value)
    assert (error.code, error.param) == (code, param)
    assert error.message.startswith(f"{param}: ")


def test_the_message_says_what_was_expected() -> None:
    wrong = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}
    error = refusal(wrong, hint=SessionConfig)
    assert error.message == "drawing.audio.input.format.rate: expected 24000, got 16000"


def test_a_refused_value_is_repeated_in_short() -> None:
    assert len(refusal({"shapes": [], "limit": "x" * 10_000}).message) < 200
    assert len(refusal({"shapes": [], "y" * 10_000: 1}).message) < 200


def test_free_form_json_is_bounded() -> None:
    nested: dict[str, object] = {}
    for _ in range(MAX_DEPTH):
        nested = {"a": nested}
    assert "levels" in refusal({"shapes": [], "extra": nested}).message
    assert "values" in refusal({"shapes": [], "extra": {"a": [0] * MAX_NODES}}).message
    assert "values" in refusal({"shapes": [], "names": {str(i): "" for i in range(MAX_NODES)}}).message


def test_a_later_version_of_the_peer_is_understood_when_asked_for() -> None:
    value = {"shapes": [{"type": "circle", "radius": 1, "shine": 3}], "shade": 1}
    assert decode(Drawing, value, strict=False) == Drawing(shapes=(Circle(radius=1.0),))


def test_hints_without_a_json_form_are_a_defect() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        decode(set[int], [])


# --- merge patches ---------------------------------------------------------------------------------------------------


def patched(patch: Mapping[str, object]) -> SessionConfig:
    return from_json(SessionConfig, merge_patch(to_json(SessionConfig()), patch))


def test_an_absent_field_stays() -> None:
    config = patched({"audio": {"output": {"voice": "nova"}}, "instructions": "Be brief."})
    assert config.audio.output.voice == "nova"
    assert config.instructions == "Be brief."
    assert config.audio.input == AudioConfig().input


def test_null_clears() -> None:
    assert patched({"audio": {"input": {"turn_detection": None}}}).audio.input.turn_detection is None
    assert refusal(merge_patch(to_json(SessionConfig()), {"audio": None}), hint=SessionConfig).code == "invalid_value"


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
