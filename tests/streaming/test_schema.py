"""The codec between dataclasses and JSON: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest

from streaming.config import SessionConfig
from streaming.errors import PeerError
from streaming.schema import MAX_DEPTH, MAX_NODES, Within, decode, from_json, to_json


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
    size: tuple[int, str] = (0, "mm")


FULL = Drawing(
    shapes=(Circle(radius=1.5), Label(text="é")),
    pixels=b"\x00\xff",
    count=-3,
    limit=4,
    visible=False,
    extra={"deep": [{"null": None}, 1.5]},
    names={"a": "b"},
    centre=Circle(radius=2.0),
    size=(3, "cm"),
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
        ({"shapes": [], "size": [1]}, "invalid_value", "drawing.size"),
        ({"shapes": [], "size": [1, 2]}, "invalid_value", "drawing.size[1]"),
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


def test_what_is_wrong_in_a_mapping_is_named_by_its_key() -> None:
    hint = Mapping[str, float]
    for value in (math.nan, math.inf, 10**400, "1", None, True):
        assert refusal({"fine": 1, "wrong": value}, hint=hint).param == "drawing.wrong"
    assert refusal({"\ud800": 1}, hint=hint).param == "drawing"
    assert decode(hint, {"fine": 1}) == {"fine": 1.0}


def test_a_later_version_of_the_peer_is_understood_when_asked_for() -> None:
    value = {"shapes": [{"type": "circle", "radius": 1, "shine": 3}], "shade": 1}
    assert decode(Drawing, value, strict=False) == Drawing(shapes=(Circle(radius=1.0),))


def test_hints_without_a_json_form_are_a_defect() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        decode(set[int], [])
