"""How `session.update` changes the session object: a merge patch (RFC 7396) that knows kinds of object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_patch(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `patch` applied: what is absent stays, objects merge, anything else (null too) replaces.

    An object whose patch changes its `type` is another kind of object, and is replaced whole. Recursion goes no deeper
    than `base` does.
    """
    merged = dict(base)
    for name, value in patch.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and _same_kind(old, value):
            merged[name] = merge_patch(old, value)
        else:
            merged[name] = value
    return merged


def _same_kind(old: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    return "type" not in patch or patch["type"] == old.get("type")
