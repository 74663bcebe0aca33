"""One database for scores, feedback and duels: SQLite, or Postgres by its URL.

Transactions run on a few threads of the database's own, never on the event loop, and everything is bounded in time: a
database that is down is an EngineError, soon.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from routing.storage import migrate
from routing.storage.address import Address, parse_address
from routing.storage.engine import CONNECTIONS, READS, make_engine
from streaming.errors import EngineError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MOST_WAITING = 256  # transactions that run or wait for a thread

_OURS = (IntegrityError, DataError, ProgrammingError)
"""What a database says of a mistake in the transaction, not of its own health."""


def open_database(url: str, *, timeout: float = 10.0) -> Database:
    """The database at an SQLAlchemy URL, made and brought up to date where that is needed; blocks while it is.

    `timeout`: seconds that a connection, a statement or a whole transaction may take. Raises EngineError, with no
    password in it: `invalid_value` for a URL that is none of ours, `database_newer` where a newer Muse has written it,
    `database_unavailable` where it cannot be reached, read or written.
    """
    address = parse_address(url)
    engine = make_engine(address, timeout=timeout)
    try:
        migrate.upgrade(engine, address, timeout=timeout)
    except (DBAPIError, sqlite3.Error) as error:
        engine.dispose()
        raise EngineError(
            f"the database at {address} cannot be opened: {address.scrub(error)}", code="database_unavailable"
        ) from None
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, address, timeout=timeout)


class Database:
    """An open database; see `open_database`."""

    def __init__(self, engine: Engine, address: Address, *, timeout: float) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**{READS: True}, postgresql_readonly=True)
        self._address = address
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="database")
        self._room = threading.BoundedSemaphore(_MOST_WAITING)

    def __str__(self) -> str:
        return str(self._address)

    async def run(self, work: Callable[[Session], T]) -> T:
        """What `work(session)` returns, in one transaction: committed if it returns, rolled back if it raises.

        Raises what `work` raises, and EngineError: `database_unavailable` where the database does not answer in time
        (whether the transaction counts is then not known), `database_busy` where too many wait, `database_closed`.
        """
        return await self._submit(self._engine, work)

    async def read(self, work: Callable[[Session], T]) -> T:
        """As `run`, for transactions that only read: they never hold up those that write."""
        return await self._submit(self._reader, work)

    def close(self) -> None:
        """Let running transactions end, and leave neither threads nor connections; blocks meanwhile."""
        self._threads.shutdown(cancel_futures=True)
        self._engine.dispose()

    async def _submit(self, engine: Engine, work: Callable[[Session], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise EngineError("the database has too much to do", code="database_busy")
        try:
            done = self._threads.submit(_transaction, engine, work)
        except RuntimeError:
            self._room.release()
            raise EngineError("the database is closed", code="database_closed") from None
        done.add_done_callback(lambda _: self._room.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), self._timeout)
        except TimeoutError:
            problem = f"no answer within {self._timeout:g} s"
        except _OURS:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            problem = self._address.scrub(error)
        _log.warning("the database at %s: %s", self._address, problem)
        raise EngineError("the database does not answer", code="database_unavailable")


def _transaction(engine: Engine, work: Callable[[Session], T]) -> T:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session)
