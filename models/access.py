"""Who may reach a process that listens: settings that the gateway and the worker have in common."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

_LEAST_KEY = 16

_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""What browsers, which send their key in a WebSocket's subprotocol, can send there (RFC 9110, section 5.6.2)."""


def key_fault(key: str) -> str | None:
    """Why clients cannot be asked for this key, if so."""
    if len(key) < _LEAST_KEY:
        return f"a key has at least {_LEAST_KEY} characters"
    if not _TOKEN.fullmatch(key):
        return "a key has letters, digits and !#$%&'*+-.^_`|~ only: browsers can send no others"
    return None


def _usable(key: SecretStr) -> SecretStr:
    if fault := key_fault(key.get_secret_value()):
        raise ValueError(fault)
    return key


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
    return value


AccessKey = Annotated[SecretStr, AfterValidator(_usable)]
"""The key that clients must send."""

Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Origins whose pages may connect, comma-separated in the environment; `*` is any."""


def is_loopback(host: str) -> bool:
    """Does a server that listens on `host` serve this machine only?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
