"""How Muse speaks to each kind of database: timeouts, transactions, pragmas."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from routing.storage.address import Address
from streaming.errors import EngineError

READS = "muse_reads"
"""The execution option of connections that only read."""

CONNECTIONS = 4
"""At once, at most."""


def make_engine(address: Address, *, timeout: float) -> Engine:
    """An engine whose every wait ends within `timeout` seconds. Raises EngineError where its driver is missing."""
    options: dict[str, Any] = {
        "json_serializer": partial(json.dumps, allow_nan=False),  # Postgres has no NaN, so that SQLite gets none either
        "hide_parameters": True,  # what people commented is among them, and errors are logged
        "pool_size": CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": timeout,
    }
    try:
        if address.sqlite:
            return _sqlite(address, options, timeout=timeout)
        return _postgres(address, options, timeout=timeout)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"{error.name} is not installed, which {address} needs: install muse-voice[postgres]",
            code="database_unavailable",
        ) from None


def _sqlite(address: Address, options: dict[str, Any], *, timeout: float) -> Engine:
    path = Path(str(address.url.database))
    _make_file(path, address)
    # Without an isolation level sqlite3 begins no transactions of its own accord: `_begin` does.
    engine = create_engine(address.url, connect_args={"timeout": timeout / 2, "isolation_level": None}, **options)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _still_there(path))
    event.listen(engine, "begin", _begin)
    return engine


def _still_there(path: Path) -> Callable[[Connection], None]:
    """What raises where the file has been taken away: open connections would go on with it, and all would be lost."""
    opened = path.stat()

    def check(_: Connection) -> None:
        try:
            same = os.path.samestat(path.stat(), opened)
        except OSError:
            same = False
        if not same:
            raise sqlite3.OperationalError("the file that was opened has been deleted or replaced; restart the server")

    return check


def _set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")  # what the write-ahead log needs to survive a crash
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes would fail at once where another has written in between; one that
    # takes the lock at its begin waits its turn.
    reads = bool(connection.get_execution_options().get(READS))
    connection.exec_driver_sql(f"PRAGMA query_only = {int(reads)}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _make_file(path: Path, address: Address) -> None:
    """What people commented is in it, so that its owner alone may read it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise EngineError(
            f"the database at {address} cannot be opened: {error.strerror}", code="database_unavailable"
        ) from None


def _postgres(address: Address, options: dict[str, Any], *, timeout: float) -> Engine:
    milliseconds = round(timeout * 1000)
    return create_engine(
        address.url,
        connect_args={
            "connect_timeout": max(2, round(timeout / 2)),
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": max(1, round(timeout)),
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 2}"
            f" -c idle_in_transaction_session_timeout={milliseconds * 2}",
            "application_name": "muse",
        },
        pool_pre_ping=True,
        **options,
    )
