"""What a session asks for, as the query of its address says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast, get_args

from routing.policy.contract import LatencyClass, Mode, SessionNeeds
from streaming.errors import PeerError

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # RFC 5646, as far as it matters here
_MOST_LANGUAGE = 35
_SHOWN = 60  # characters of a refused value that an error message repeats


def read_needs(query: Mapping[str, str]) -> SessionNeeds:
    """The needs in a query's `model`, `mode`, `language` and `latency`; what is absent or empty is left to the router.

    A language is taken without its region. Raises PeerError `invalid_value` whose `param` is the one that cannot be
    taken. Which models there are is not looked at.
    """
    return SessionNeeds(
        model=query.get("model") or None,
        mode=cast(Mode | None, _choice(query, "mode", get_args(Mode))),
        language=_language(query),
        latency=cast(LatencyClass | None, _choice(query, "latency", get_args(LatencyClass))),
    )


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    text = query.get(name) or None
    if text is not None and text not in choices:
        raise _refused(name, " or ".join(choices), text)
    return text


def _language(query: Mapping[str, str]) -> str | None:
    text = query.get("language") or None
    if text is None:
        return None
    if len(text) > _MOST_LANGUAGE or _LANGUAGE.fullmatch(text) is None:
        raise _refused("language", "a language such as en or de-CH", text)
    return text.split("-")[0].lower()


def _refused(name: str, expected: str, text: str) -> PeerError:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return PeerError(f"{name}: expected {expected}, got {shown!r}", code="invalid_value", param=name)
