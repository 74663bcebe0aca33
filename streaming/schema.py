"""Between frozen dataclasses and JSON-able values, driven by the dataclasses' own type hints.

One description serves both ends of a wire: `to_json` and `from_json` are each other's inverse. Bytes travel as base64,
samples as that of little-endian float32.
A union of dataclasses is told apart by their `type` fields. What a peer gets wrong is refused with the path of the
offending field, so that the peer can be told. Decoders are built once per class.

A dataclass names the fields that a peer may send and that have no use here in a class variable `IGNORED_FIELDS`; any
other name that it does not have is refused. Bounds are written in the hint: `Annotated[float, Within(0.25, 1.5)]`.
"""

from __future__ import annotations

import binascii
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from streaming.errors import PeerError

T = TypeVar("T")
Decoder = Callable[[object], Any]

MAX_DEPTH = 32
"""Levels of nesting allowed in free-form JSON such as a tool's parameters."""

MAX_NODES = 10_000
"""Values allowed in one piece of free-form JSON."""

_SHOWN = 60  # characters of a refused value that an error message repeats


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """The closed range that a number must lie in."""

    low: float
    high: float


def to_json(obj: object, *, omit_none: bool = False) -> dict[str, Any]:
    """The JSON object of a dataclass; with `omit_none`, fields that are None are left out instead of null."""
    cls: Any = type(obj)
    return {
        name: _encode(value, omit_none)
        for name in _field_names(cls)
        if (value := getattr(obj, name)) is not None or not omit_none
    }


def from_json(cls: type[T], value: object, *, path: str = "session") -> T:
    """The `cls` that `value` describes.

    Raises PeerError: `missing_required_parameter`, `unknown_parameter`, or `invalid_value` for everything else; its
    `param` is the field's path below `path`.
    """
    decoded: T = decode(cls, value, path=path)
    return decoded


def decode(hint: Any, value: object, *, path: str = "", strict: bool = True) -> Any:
    """As `from_json`, for any type hint. `strict=False` takes unknown fields for a later version's and skips them."""
    try:
        return _decoder(hint, strict)(value)
    except _RefusedError as refused:
        param = path + "".join(reversed(refused.path))
        param = param.removeprefix(".")
        raise PeerError(
            f"{param}: {refused}" if param else str(refused), code=refused.code, param=param or None
        ) from None


# --- encoding --------------------------------------------------------------------------------------------------------


@functools.cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


_ATOMS = frozenset((str, int, float, bool, type(None)))


def _encode(value: object, omit_none: bool) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, np.ndarray):
        return binascii.b2a_base64(value.astype("<f4").tobytes(), newline=False).decode("ascii")
    if isinstance(value, tuple | list):
        return [_encode(item, omit_none) for item in value]
    if isinstance(value, Mapping):  # free-form: its nulls mean something
        return {key: _encode(item, False) for key, item in value.items()}
    return to_json(value, omit_none=omit_none)


# --- decoding --------------------------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """A value that cannot be taken; the path to it is collected, innermost first, on the way out."""

    def __init__(self, message: str, code: str = "invalid_value", at: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.path = [at] if at else []


def _expected(what: str, value: object) -> _RefusedError:
    return _RefusedError(f"expected {what}, got {_describe(value)}")


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = repr(value) if isinstance(value, str) else format(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


@functools.cache
def _decoder(hint: Any, strict: bool) -> Decoder:
    """The function that turns JSON into what `hint` describes. Raises TypeError for hints that JSON cannot carry."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), strict)
    try:
        build = _BUILDERS[get_origin(hint)]
    except KeyError:
        raise TypeError(f"no JSON form for {hint!r}") from None
    return build(get_args(hint), strict)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _expected("a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _RefusedError("expected text, got half of a surrogate pair") from None
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _expected("an integer", value)
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _expected("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _RefusedError("expected a finite number")
    return number


def _null(value: object) -> None:
    if value is not None:
        raise _expected("null", value)


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise _expected("base64 text", value)
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise _RefusedError("expected valid base64") from None


def _samples(_args: tuple[Any, ...], _strict: bool) -> Decoder:
    def take(value: object) -> object:
        data = _base64(value)
        if len(data) % 4:
            raise _RefusedError(f"expected whole float32 samples, got {len(data)} bytes")
        return np.frombuffer(data, dtype="<f4")

    return take


_SCALARS: dict[object, Decoder] = {
    str: _string,
    bool: _boolean,
    int: _integer,
    float: _number,
    type(None): _null,
    bytes: _base64,
}

_JSON_TYPES: dict[object, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    type(None): (type(None),),
    bytes: (str,),
    tuple: (list,),
    dict: (dict,),
    Mapping: (dict,),
}


def _annotated(args: tuple[Any, ...], strict: bool) -> Decoder:
    inner, bounds = _decoder(args[0], strict), args[1]

    def take(value: object) -> object:
        number = inner(value)
        if not bounds.low <= number <= bounds.high:
            raise _expected(f"a number from {bounds.low} to {bounds.high}", number)
        return number

    return take


def _literal(allowed: tuple[object, ...], _strict: bool) -> Decoder:
    expected = _choices(allowed)

    def take(value: object) -> object:
        for choice in allowed:
            if type(value) is type(choice) and value == choice:
                return choice
        raise _expected(expected, value)

    return take


def _choices(allowed: tuple[object, ...]) -> str:
    shown = [_describe(choice) for choice in allowed]
    return shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"


def _sequence(args: tuple[Any, ...], strict: bool) -> Decoder:
    inners = [_decoder(arg, strict) for arg in args if arg is not ...]
    open_ended = args[-1] is ...

    def take(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise _expected("an array", value)
        if not open_ended and len(value) != len(inners):
            raise _RefusedError(f"expected {len(inners)} values, got {len(value)}")
        taken = []
        for index, item in enumerate(value):
            try:
                taken.append(inners[0 if open_ended else index](item))
            except _RefusedError as refused:
                refused.path.append(f"[{index}]")
                raise
        return tuple(taken)

    return take


def _mapping(args: tuple[Any, ...], strict: bool) -> Decoder:
    if args[1] is object:
        return _free_form
    inner = _decoder(args[1], strict)

    def take(value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _expected("an object", value)
        if 2 * len(value) > MAX_NODES:  # names are values, too
            raise _RefusedError(f"expected at most {MAX_NODES} values")
        taken = {}
        for name, item in value.items():
            _string(name)
            try:
                taken[name] = inner(item)
            except _RefusedError as refused:
                refused.path.append(f".{name[:_SHOWN]}")
                raise
        return taken

    return take


def _free_form(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _expected("an object", value)
    level: list[object] = [value]
    nodes = 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise _RefusedError(f"expected at most {MAX_NODES} values")
        level = [child for node in level for child in _children(node)]
        if not level:
            return value
    raise _RefusedError(f"expected at most {MAX_DEPTH} levels of nesting")


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, list):
        return node
    if isinstance(node, str):
        _string(node)
    elif isinstance(node, float):
        _number(node)
    return []


def _union(members: tuple[Any, ...], strict: bool) -> Decoder:
    """Chooses by the JSON type of the value, and among dataclasses by `type`."""
    by_json_type: dict[type, Decoder] = {}
    classes: list[Any] = [member for member in members if dataclasses.is_dataclass(member)]
    if classes:
        by_json_type[dict] = _decoder(classes[0], strict) if len(classes) == 1 else _tagged(classes, strict)
    for member in members:
        if member in classes:
            continue
        literals = get_args(member) if get_origin(member) is Literal else ()
        json_types = {type(choice) for choice in literals} or _JSON_TYPES[_plain(member)]
        for json_type in json_types:
            by_json_type.setdefault(json_type, _decoder(member, strict))
    fallback = by_json_type.get(dict) or _decoder(members[0], strict)

    def take(value: object) -> object:
        return by_json_type.get(type(value), fallback)(value)

    return take


def _plain(hint: object) -> object:
    """The class behind a hint such as `Annotated[float, ...]` or `tuple[str, ...]`."""
    origin = get_origin(hint)
    return _plain(get_args(hint)[0]) if origin is Annotated else origin or hint


def _tagged(classes: list[Any], strict: bool) -> Decoder:
    by_tag: dict[object, Decoder] = {}
    for cls in classes:
        tags = get_args(get_type_hints(cls)["type"])
        by_tag.update(dict.fromkeys(tags, _decoder(cls, strict)))
    expected = _choices(tuple(by_tag))

    def take(value: object) -> object:
        if not isinstance(value, dict):
            raise _expected("an object", value)
        try:
            tag = value["type"]
        except KeyError:
            raise _RefusedError("is required", "missing_required_parameter", ".type") from None
        inner = by_tag.get(tag) if isinstance(tag, str) else None
        if inner is None:
            refused = _expected(expected, tag)
            refused.path.append(".type")
            raise refused
        return inner(value)

    return take


def _dataclass(cls: type, strict: bool) -> Decoder:
    hints = get_type_hints(cls, include_extras=True)
    fields = dataclasses.fields(cls)
    decoders = {field.name: _decoder(hints[field.name], strict) for field in fields}
    required = [field.name for field in fields if _is_required(field)]
    ignored: frozenset[str] = getattr(cls, "IGNORED_FIELDS", frozenset())

    def take(value: object) -> object:
        if not isinstance(value, dict):
            raise _expected("an object", value)
        arguments = {}
        for name, item in value.items():
            inner = decoders.get(name)
            if inner is not None:
                try:
                    arguments[name] = inner(item)
                except _RefusedError as refused:
                    refused.path.append(f".{name}")
                    raise
            elif strict and name not in ignored:
                raise _RefusedError("is not a known parameter", "unknown_parameter", f".{name[:_SHOWN]}")
        for name in required:
            if name not in arguments:
                raise _RefusedError("is required", "missing_required_parameter", f".{name}")
        return cls(**arguments)

    return take


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_BUILDERS: dict[object, Callable[[tuple[Any, ...], bool], Decoder]] = {
    Annotated: _annotated,
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
    tuple: _sequence,
    dict: _mapping,
    Mapping: _mapping,
    np.ndarray: _samples,
}
