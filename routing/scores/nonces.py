"""Nonces that were used, in the database: a request is taken once, by whichever process, before or after a restart."""

from __future__ import annotations

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from routing.scores.errors import TooManyScoresError
from routing.scores.tables import NonceRow
from routing.storage import upsert
from routing.storage.database import Database

KEPT_SECONDS = 600.0
"""For how long: longer than any request stays fresh, also where the clocks of gateways are minutes apart."""

MOST = 240
"""Of one hotkey in that time. It may send fewer submissions (`queries.StoreRules`); this bounds what is refused."""


class NonceStore:
    """Nonces of `btauth/1`: Unix times in nanoseconds, each to be used once by a hotkey."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def use(self, hotkey: str, nonce_ns: int, *, now: float) -> bool:
        """Whether it is the first time. `now` is Unix time (s).

        Raises TooManyScoresError, which uses nothing up, and EngineError as `Database.run`.
        """
        used = select(func.count(), func.min(NonceRow.nonce)).where(NonceRow.hotkey == hotkey)

        def note(session: Session) -> bool:
            _forget(session, round((now - KEPT_SECONDS) * 1e9))
            count, oldest = session.execute(used).one()
            if count >= MOST:
                raise TooManyScoresError(
                    f"a validator may send {MOST} requests in {KEPT_SECONDS:g} s",
                    retry_after=max(oldest / 1e9 + KEPT_SECONDS - now, 1.0),
                )
            added = session.execute(
                upsert.insert(session, NonceRow)
                .values(hotkey=hotkey, nonce=nonce_ns)
                .on_conflict_do_nothing()
                .returning(NonceRow.nonce)
            )
            return added.first() is not None

        return await self._database.run(note)


def _forget(session: Session, before: int) -> None:
    """What another process has in hand is left to it, so that the two never wait for each other."""
    key = NonceRow.hotkey, NonceRow.nonce
    old = select(*key).where(NonceRow.nonce < before).with_for_update(skip_locked=True)
    session.execute(delete(NonceRow).where(tuple_(*key).in_(old)))
