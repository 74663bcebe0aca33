from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hub.errors import WeightsRefusedError
from models.hub.safetensors_header import MAX_HEADER_BYTES, check_tensors, read_header
from tests.models.hub.files import EXPECTED, TENSORS, safetensors


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "model.safetensors"


def changed(name: str = "out_norm.alpha", **fields: Any) -> dict[str, Any]:
    return {**TENSORS, name: {**TENSORS[name], **fields}}


def test_a_header_is_read(path: Path) -> None:
    path.write_bytes(safetensors({"__metadata__": {"format": "pt"}, **TENSORS}))
    header = check_tensors(path, EXPECTED)
    assert header.metadata == {"format": "pt"}
    entry = header.tensors["out_norm.alpha"]
    assert (entry.dtype, entry.shape, entry.start, entry.end) == ("F32", (1, 1, 8), 64, 96)


def test_order_padding_and_empty_tensors_do_not_matter(path: Path) -> None:
    empty = {"dtype": "I64", "shape": [0, 3], "data_offsets": [64, 64]}
    text = json.dumps(dict(reversed({**TENSORS, "empty": empty}.items()))) + "   "
    path.write_bytes(safetensors(text))
    assert read_header(path).tensors["empty"].shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes are no safetensors file"),
        (b"1234567", "7 bytes are no safetensors file"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "a header of 4194305 bytes; at most 4194304"),
        (b"\xff" * 100, "a header of 18446744073709551615 bytes"),
        ((93).to_bytes(8, "little") + b"{}" + bytes(90), "truncated: a header of 93 bytes in a file of 100"),
        (safetensors(data=bytes(95)), "truncated: 95 bytes of tensors where 96 are announced"),
        (safetensors(data=bytes(97)), "1 bytes after the last tensor"),
        (safetensors(b"[]"), "does not start with a brace"),
        (safetensors(b" {}"), "does not start with a brace"),
        (safetensors(b"{"), "not well-formed JSON"),
        (safetensors(b'{"a": "\xff"}'), "not well-formed JSON"),
        (safetensors('{"a": {"a": ' + "[" * 100_000), "not well-formed JSON"),
        (safetensors('{"a": {}, "a": {}}'), "a name appears twice"),
        (safetensors('{"a": {"dtype": "F32", "dtype": "F32"}}'), "a name appears twice"),
        (safetensors('{"a": 1.5}'), "not whole"),
        (safetensors('{"a": NaN}'), "not whole"),
        (safetensors('{"a": 1e999}'), "not whole"),
        (safetensors(f'{{"a": {"9" * 20}}}'), "a number too long"),
        (safetensors({"__metadata__": {"a": 1}}), "__metadata__ is not a mapping of strings"),
        (safetensors({"__metadata__": []}), "__metadata__ is not a mapping of strings"),
        (safetensors({"": TENSORS["text_emb.weight"]}), "'' is no name of a tensor"),
        (safetensors({"a" * 513: TENSORS["text_emb.weight"]}), "is no name of a tensor"),
        (safetensors({"a\x1b[2J": TENSORS["text_emb.weight"]}), r"a\\\\x1b\[2J'? is no name of a tensor"),
        (safetensors({"a": []}), "a is not dtype, shape and data_offsets"),
        (safetensors(changed(more=1)), "out_norm.alpha is not dtype, shape and data_offsets"),
        (safetensors(changed(data_offsets=[64])), "out_norm.alpha is not dtype, shape and data_offsets"),
        (safetensors(changed(data_offsets=[64, True])), "data_offsets that are no whole numbers"),
        (safetensors(changed(data_offsets=["64", "96"])), "data_offsets that are no whole numbers"),
        (safetensors(changed(dtype="F33")), "out_norm.alpha has the unknown dtype 'F33'"),
        (safetensors(changed(shape=[-1, -8])), "no shape of at most 8 whole numbers"),
        (safetensors(changed(shape=[True, 8])), "no shape of at most 8 whole numbers"),
        (safetensors(changed(shape=[1] * 8 + [8])), "no shape of at most 8 whole numbers"),
        (safetensors(changed(shape=[10**18] * 8)), r"has 32 bytes where F32 .* needs"),
        (safetensors(changed(shape=[9])), r"out_norm.alpha has 32 bytes where F32 \[9\] needs 36"),
        (safetensors(changed(data_offsets=[60, 92])), "out_norm.alpha starts at byte 60, where 64 is expected"),
        (safetensors(changed(data_offsets=[65, 97])), "out_norm.alpha starts at byte 65, where 64 is expected"),
        (safetensors(changed(data_offsets=[-32, 0])), "out_norm.alpha starts at byte -32, where 0 is expected"),
    ],
)
def test_a_file_that_is_not_whole_and_plain_is_refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(WeightsRefusedError, match=reason) as refused:
        read_header(path)
    assert refused.value.file == "model.safetensors"
    assert refused.value.message.isprintable()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefusedError, match=r"gone\.safetensors: cannot be read"):
        read_header(tmp_path / "gone.safetensors")


def test_a_tensor_missing_is_named(path: Path) -> None:
    path.write_bytes(safetensors())
    expected = {**EXPECTED, **{f"layer.{n}": ((2,), {"F32"}) for n in range(5)}}
    with pytest.raises(WeightsRefusedError, match=r"missing: layer\.0, layer\.1, layer\.2 and 2 more$"):
        check_tensors(path, expected)


def test_a_tensor_too_many_is_named(path: Path) -> None:
    path.write_bytes(safetensors())
    with pytest.raises(WeightsRefusedError, match=r"not expected: out_norm\.alpha$"):
        check_tensors(path, {"text_emb.weight": EXPECTED["text_emb.weight"]})


def test_a_tensor_of_another_shape_or_dtype_is_named(path: Path) -> None:
    path.write_bytes(safetensors(changed(shape=[8])))
    with pytest.raises(WeightsRefusedError, match=r"shape: out_norm\.alpha \[8\] where \[1, 1, 8\] is expected$"):
        check_tensors(path, EXPECTED)
    path.write_bytes(safetensors(changed(dtype="I32")))
    with pytest.raises(WeightsRefusedError, match=r"dtype: out_norm\.alpha I32 where BF16 or F32 is expected$"):
        check_tensors(path, {**EXPECTED, "out_norm.alpha": ((1, 1, 8), {"F32", "BF16"})})


@given(st.binary(max_size=300))
def test_bytes_at_random_are_refused_and_nothing_worse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WeightsRefusedError):
        read_header(path)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["F32", "BF16"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.text(max_size=8) | st.just("__metadata__"),
        _VALUES | st.fixed_dictionaries({"dtype": _VALUES, "shape": _VALUES, "data_offsets": _VALUES}),
        max_size=4,
    ),
    st.binary(max_size=40),
)
def test_any_json_is_read_or_refused(path: Path, document: dict[str, Any], data: bytes) -> None:
    path.write_bytes(safetensors(document, data))
    try:
        header = read_header(path)
    except WeightsRefusedError:
        return
    assert sum(entry.end - entry.start for entry in header.tensors.values()) == len(data)
