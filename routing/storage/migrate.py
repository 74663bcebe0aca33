"""Bringing a database up to date when it is opened: alembic, as a library."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from routing.storage.address import Address
from streaming.errors import EngineError

MIGRATIONS = Path(__file__).with_name("migrations")

_LOCK = 0x6D757365  # "muse": Postgres names its advisory locks by number
_ALONE = threading.Lock()  # alembic keeps the migration under way in the module, one for the process
_RETRY = 0.05  # seconds


def upgrade(engine: Engine, address: Address, *, timeout: float) -> None:
    """Run the migrations that the database lacks, in one transaction that no other process can enter.

    Raises EngineError (`database_newer`) for one with migrations that are not known here, and SQLAlchemy's errors.
    """
    if address.sqlite:
        _log_ahead(engine, timeout=timeout)
    with _ALONE, engine.connect() as connection, connection.begin():
        if not address.sqlite:  # SQLite's transactions are alone from their begin
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        _migrate(connection, address)


def _migrate(connection: Connection, address: Address) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    for revision in present:
        if revision not in known:
            raise EngineError(
                f"the database at {address} was written by a newer Muse: it is at {revision!r}, and this one knows "
                f"up to {scripts.get_current_head()!r}. Upgrade Muse, or use another database.",
                code="database_newer",
            )
    if set(present) != set(scripts.get_heads()):
        command.upgrade(config, "head")


def _log_ahead(engine: Engine, *, timeout: float) -> None:
    """Readers and a writer go side by side with a write-ahead log. The file keeps that it has one."""
    deadline = time.monotonic() + timeout
    with contextlib.closing(engine.raw_connection()) as connection:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:  # SQLite does not wait here for another process that does the same
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY)
            else:
                return
