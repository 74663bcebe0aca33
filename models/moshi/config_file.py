"""Reading a configuration file of a model that is not trusted: JSON or YAML, bounded, every value checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from models.hub.errors import printable
from streaming.errors import EngineError

_MAX_BYTES = 1 << 16


class _YamlLoader(yaml.SafeLoader):
    """Plain values only. Ten lines of anchors and aliases stand for gigabytes, once they are printed."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)


def load(path: Path) -> Document:
    """The mapping that a JSON or YAML file holds.

    Raises EngineError where the file is not one, or is larger than 64 KiB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _invalid(path.name, f"is larger than {_MAX_BYTES} bytes")
        text = data.decode()
        document = json.loads(text) if path.suffix == ".json" else _YamlLoader(text).get_single_data()
    except OSError as error:
        raise _invalid(path.name, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _invalid(
            path.name, f"is not a {path.suffix.removeprefix('.').upper()} file: {printable(str(error), 200)}"
        ) from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise _invalid(path.name, "is to hold one mapping of names to values")
    return Document(path.name, document)


class Document:
    """A mapping from a file that is being read: what was taken is taken out, so that what is left over is unknown."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name = name
        self._given = dict(values)
        self._left = dict(values)

    def wrong(self, key: str, expected: str) -> EngineError:
        """The error for a key whose value cannot be taken."""
        if key not in self._given:
            return _invalid(self._name, f"does not say {key}; expected {expected}")
        return _invalid(self._name, f"has {key} = {_shown(self._given[key])}; expected {expected}")

    def count(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self._left.pop(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"{least}" if least == most else f"a whole number from {least} to {most}")
        return value

    def sizes(self, key: str, default: tuple[int, ...], *, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers from `least` to `most`."""
        values = self._left.pop(key, default)
        if not isinstance(values, (list, tuple)) or not all(
            isinstance(value, int) and not isinstance(value, bool) and least <= value <= most for value in values
        ):
            raise self.wrong(key, f"a list of whole numbers from {least} to {most}")
        return tuple(values)

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        """A finite number from `least` to `most`."""
        value = self._left.pop(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def one_of(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of the `known` words."""
        value = self._left.pop(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, " or ".join(known))
        return value

    def file_name(self, key: str, default: str | None) -> str | None:
        """The name of a file beside this one."""
        value = self._left.pop(key, default)
        if value is None and default is None:
            return None
        if not isinstance(value, str) or not value or value.startswith(".") or set(value) & set("/\\:\0"):
            raise self.wrong(key, "the plain name of a file in the same directory")
        return value

    def only_as(self, allowed: Mapping[str, tuple[Any, ...]]) -> None:
        """Keys that may be left out, or have one of the values that are served."""
        for key, values in allowed.items():
            if key in self._left and not any(_same(self._left[key], value) for value in values):
                raise self.wrong(key, f"{values[0]!r}: no other variant is served")
            self._left.pop(key, None)

    def inner(self, key: str) -> Document:
        """A mapping within this one; an empty one where it is left out."""
        value = self._left.pop(key, None)
        if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
            raise self.wrong(key, "a mapping of names to values")
        return Document(f"{self._name}: {key}", value or {})

    def null(self, key: str) -> bool:
        """Whether the file says that the value is to be derived from others; then it is taken as left out."""
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return True
        return False

    def drop(self, keys: set[str]) -> None:
        """Pass over keys that change nothing."""
        for key in keys:
            self._left.pop(key, None)

    def finish(self) -> None:
        """Raise EngineError where a key was not taken."""
        if self._left:
            raise _invalid(self._name, f"has keys that are not known: {printable(', '.join(sorted(self._left)), 200)}")


def _same(value: object, expected: object) -> bool:
    """Equal, and of one kind: 8.0 is 8, but `true` is not 1."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def _shown(value: object) -> str:
    try:
        return printable(str(value), 80)
    except ValueError:  # from Python's own limit on digits
        return "a number too long to show"


def _invalid(name: str, message: str) -> EngineError:
    return EngineError(f"{name} {message}", code="invalid_config")
