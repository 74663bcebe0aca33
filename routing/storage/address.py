"""Where a database is, in a form that can be shown."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from streaming.errors import EngineError

_DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg")
_EXPECTED = "expected sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"
_SETTING = "MUSE_ROUTING_DATABASE"
_PASSWORDS = ("password", "sslpassword", "passfile")


@dataclass(frozen=True, slots=True)
class Address:
    """A database's URL. As a string it has no password."""

    url: URL

    @property
    def sqlite(self) -> bool:
        """Whether it is a file."""
        return self.url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        return self.url.set(query={}).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({self})"

    def scrub(self, error: Exception) -> str:
        """What the driver said, in one line without the password."""
        said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        secrets = (self.url.password, *(self.url.query.get(name) for name in _PASSWORDS))
        for secret in secrets:
            if isinstance(secret, str) and secret:
                said = said.replace(secret, "***")
        return said[:500]


def parse_address(url: str) -> Address:
    """Raises EngineError (`invalid_value`) for what is no URL of a database that Muse can use, without repeating it."""
    try:
        parsed = make_url(url)
        driver = f"{parsed.get_backend_name()}+{parsed.get_driver_name()}"
    except (ArgumentError, ValueError):
        raise EngineError(f"{_SETTING}: that is no database URL: {_EXPECTED}", code="invalid_value") from None
    if driver not in _DRIVERS:
        raise EngineError(
            f"{_SETTING}: a database of the kind {parsed.drivername!r} cannot be used: {_EXPECTED}",
            code="invalid_value",
        )
    if driver == _DRIVERS[0] and parsed.database in (None, "", ":memory:"):
        raise EngineError(
            f"{_SETTING}: a database in memory would forget everything: {_EXPECTED}", code="invalid_value"
        )
    if driver == _DRIVERS[0] and parsed.query:
        raise EngineError(f"{_SETTING}: options of SQLite cannot be set by URL: {_EXPECTED}", code="invalid_value")
    return Address(parsed)
