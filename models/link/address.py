"""Addresses of engines that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from streaming.errors import EngineError


def host_of(url: str, schemes: Sequence[str]) -> tuple[str, str]:
    """The scheme, and the host with its port. Raises EngineError (`invalid_url`) for another form."""
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port and parts.path in ("", "/") and not parts.query
    except ValueError:
        whole = False
    if not whole or parts.scheme not in schemes:
        forms = " or ".join(f"{scheme}://host:port" for scheme in schemes)
        raise EngineError(f"expected an address such as {forms}", code="invalid_url")
    return parts.scheme, parts.netloc.rpartition("@")[2]


def reason(error: Exception) -> str:
    """Why a connection failed, in the words of whoever tried: they may name hosts, and are for the log."""
    return str(error) or type(error).__name__
