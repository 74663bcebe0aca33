"""Nonces that were used, in the database: a request is taken once, by whichever process, before or after a restart."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from routing.scores.tables import NonceRow
from routing.storage import upsert
from routing.storage.database import Database

KEPT_SECONDS = 60.0
"""For how long; longer than any request stays fresh."""


class NonceStore:
    """Nonces of `btauth/1`: Unix times in nanoseconds, each to be used once by a hotkey."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def use(self, hotkey: str, nonce_ns: int, *, now: float) -> bool:
        """Whether it is the first time. `now` is Unix time (s). Raises EngineError as `Database.run`."""

        def note(session: Session) -> bool:
            session.execute(delete(NonceRow).where(NonceRow.nonce < round((now - KEPT_SECONDS) * 1e9)))
            added = session.execute(
                upsert.insert(session, NonceRow)
                .values(hotkey=hotkey, nonce=nonce_ns)
                .on_conflict_do_nothing()
                .returning(NonceRow.nonce)
            )
            return added.first() is not None

        return await self._database.run(note)
