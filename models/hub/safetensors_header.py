"""The header of a safetensors file, read without reading (or believing) the rest.

Eight bytes of little-endian length, that many bytes of JSON, then the tensors' bytes with neither gap nor overlap:
https://github.com/huggingface/safetensors#format. Stricter than the format where that costs nothing: a header of at
most 4 MiB, no name twice, no floats, bounded names and shapes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from models.hub.errors import WeightsRefusedError, printable

MAX_HEADER_BYTES = 4 * 2**20
_MAX_NAME = 512
_MAX_DIMENSIONS = 8
_MAX_INTEGER_DIGITS = 19
_SHOWN = 3

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip

Expected = Mapping[str, tuple[Sequence[int], AbstractSet[str]]]
"""A tensor's name to its shape and the dtypes that it may have, as safetensors calls them ("BF16")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor: its bytes are `[start, end)` after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All tensors by name, and the file's free-form notes."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_header(path: Path, *, name: str | None = None) -> Header:
    """Read and check the header of `path`, which errors call `name`.

    Raises WeightsRefusedError for anything that is not a whole safetensors file.
    """
    shown = name or path.name
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little") if size >= 8 else -1
            _check_length(shown, length, size)
            text = file.read(length)
    except OSError as error:
        raise WeightsRefusedError(shown, f"cannot be read: {error.strerror}") from None
    return _parse(shown, text, data_bytes=size - 8 - length)


def check_tensors(path: Path, expected: Expected, *, name: str | None = None) -> Header:
    """Read the header of `path` and compare it with the tensors that a model needs.

    Raises WeightsRefusedError that names the first tensors missing, not expected, or of another shape or dtype.
    """
    header = read_header(path, name=name)
    found = header.tensors
    differences = [
        *_listed("missing", sorted(expected.keys() - found.keys())),
        *_listed("not expected", sorted(found.keys() - expected.keys())),
        *_listed(
            "of another shape",
            [
                f"{key} {list(found[key].shape)} where {list(shape)} is expected"
                for key, (shape, _) in expected.items()
                if key in found and found[key].shape != tuple(shape)
            ],
        ),
        *_listed(
            "of another dtype",
            [
                f"{key} {found[key].dtype} where {' or '.join(sorted(dtypes))} is expected"
                for key, (_, dtypes) in expected.items()
                if key in found and found[key].dtype not in dtypes
            ],
        ),
    ]
    if differences:
        raise WeightsRefusedError(name or path.name, f"not the tensors of this model: {'; '.join(differences)}")
    return header


def _listed(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return [f"{what}: {', '.join(printable(item) for item in items[:_SHOWN])}{more}"]


def _check_length(file: str, length: int, size: int) -> None:
    if length < 0:
        raise WeightsRefusedError(file, f"{size} bytes are no safetensors file")
    if length > MAX_HEADER_BYTES:
        raise WeightsRefusedError(file, f"a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    if length > size - 8:
        raise WeightsRefusedError(file, f"truncated: a header of {length} bytes in a file of {size}")


def _parse(file: str, text: bytes, *, data_bytes: int) -> Header:
    def refuse(reason: str) -> NoReturn:
        raise WeightsRefusedError(file, f"header: {reason}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            refuse("a name appears twice")
        return fields

    def integer(digits: str) -> int:
        if len(digits) > _MAX_INTEGER_DIGITS:
            refuse("a number too long")
        return int(digits)

    if not text.startswith(b"{"):
        refuse("it does not start with a brace")
    try:
        document = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=lambda _: refuse("a number that is not whole"),
            parse_constant=lambda _: refuse("a number that is not whole"),
        )
    except (ValueError, RecursionError):
        refuse("it is not well-formed JSON")
    metadata = document.pop("__metadata__", {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        refuse("__metadata__ is not a mapping of strings")
    tensors = {key: _entry(file, key, fields) for key, fields in document.items()}
    _check_layout(file, tensors, data_bytes)
    return Header(tensors=MappingProxyType(tensors), metadata=MappingProxyType(metadata))


def _entry(file: str, key: str, fields: Any) -> TensorEntry:
    if not 0 < len(key) <= _MAX_NAME or not key.isprintable():
        raise WeightsRefusedError(file, f"header: {printable(key)!r} is no name of a tensor")
    match fields:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if len(fields) == 3:
            pass
        case _:
            raise WeightsRefusedError(file, f"header: {printable(key)} is not dtype, shape and data_offsets")
    if dtype not in _BITS:
        raise WeightsRefusedError(file, f"header: {printable(key)} has the unknown dtype {printable(dtype, 20)!r}")
    if not type(start) is type(end) is int:
        raise WeightsRefusedError(file, f"header: {printable(key)} has data_offsets that are no whole numbers")
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
        raise WeightsRefusedError(
            file, f"header: {printable(key)} has no shape of at most {_MAX_DIMENSIONS} whole numbers"
        )
    if (needed := math.prod(shape) * _BITS[dtype] // 8) != end - start:
        raise WeightsRefusedError(
            file, f"header: {printable(key)} has {end - start} bytes where {dtype} {shape} needs {needed}"
        )
    return TensorEntry(dtype=dtype, shape=tuple(shape), start=start, end=end)


def _check_layout(file: str, tensors: Mapping[str, TensorEntry], data_bytes: int) -> None:
    position = 0
    for key, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise WeightsRefusedError(
                file, f"header: {printable(key)} starts at byte {entry.start}, where {position} is expected"
            )
        position = entry.end
    if position > data_bytes:
        raise WeightsRefusedError(file, f"truncated: {data_bytes} bytes of tensors where {position} are announced")
    if position < data_bytes:
        raise WeightsRefusedError(file, f"{data_bytes - position} bytes after the last tensor")
