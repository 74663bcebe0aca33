"""Who may connect: one API key, compared in constant time, and the origins that browsers may come from."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from server.errors import Refused

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""What browsers, which cannot set headers on a WebSocket, put before their key in a subprotocol."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Who may use the server.

    `api_key`: the one key; None admits everyone, with any key or none. `allowed_origins`: origins such as
    `https://example.com` whose pages may open a conversation besides the server's own; `*` is any. `local`: the server
    listens on loopback only.
    """

    api_key: str | None = None
    allowed_origins: frozenset[str] = frozenset()
    local: bool = True

    def check_key(self, headers: Mapping[str, str], subprotocols: Iterable[str] = ()) -> None:
        """Raises Refused (401) unless the request carries the key."""
        if self.api_key is None:
            return
        given = _bearer(headers.get("authorization", "")) or _subprotocol_key(subprotocols)
        if given is None:
            raise Refused(401, "missing_api_key", "This server needs an API key: send it as a Bearer token.")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self.api_key.encode()):
            raise Refused(401, "invalid_api_key", "That API key is not valid here.")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises Refused (403) for a page of a foreign origin. A client that is not a browser sends none."""
        origin = headers.get("origin")
        if origin is None or "*" in self.allowed_origins or origin in self.allowed_origins:
            return
        if not self._is_own(origin, headers.get("host", "")):
            raise Refused(403, "origin_not_allowed", "Pages of this origin may not connect to this server.")

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            page, server = urlsplit(origin), urlsplit(f"//{host}")
            default = _DEFAULT_PORTS.get(page.scheme)
            same = (page.hostname, page.port or default) == (server.hostname, server.port or default)
        except ValueError:
            return False
        if not same or page.hostname is None:
            return False
        # An open server on loopback is reachable by any page whose name is made to resolve to 127.0.0.1 (DNS
        # rebinding): such a page has a foreign name, so only addresses and "localhost" are its own.
        rebindable = self.local and self.api_key is None
        return not rebindable or _is_unforgeable(page.hostname)


def offered_subprotocol(subprotocols: Sequence[str]) -> str | None:
    """The subprotocol to answer with: `realtime` where it is offered. Never the one that holds a key."""
    return "realtime" if "realtime" in subprotocols else None


def _is_unforgeable(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _subprotocol_key(subprotocols: Iterable[str]) -> str | None:
    keys = (name.removeprefix(KEY_SUBPROTOCOL) for name in subprotocols if name.startswith(KEY_SUBPROTOCOL))
    return next(keys, None)
