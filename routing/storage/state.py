"""Small states that must survive a restart, and that several processes may write: compare and swap."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import JSON, String, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from routing.storage.base import Base
from routing.storage.database import Database


class StateRow(Base):
    """One state. `revision` counts its writes, from 1."""

    __tablename__ = "states"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[int]


class StateStore:
    """States by name, each a JSON object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, name: str) -> tuple[dict[str, Any], int] | None:
        """The state and its revision; None where there has never been one. Raises EngineError as `Database.run`."""

        def read(session: Session) -> tuple[dict[str, Any], int] | None:
            row = session.get(StateRow, name)
            return None if row is None else (row.value, row.revision)

        return await self._database.read(read)

    async def save(self, name: str, value: dict[str, Any], *, revision: int) -> bool:
        """Put `value` in the place of that revision (0: of none). False, and nothing happens, where another did first.

        Raises ValueError for what JSON cannot hold, NaN among it, and EngineError as `Database.run`.
        """
        json.dumps(value, allow_nan=False)

        def create(session: Session) -> bool:
            session.add(StateRow(name=name, value=value, revision=1))
            session.flush()
            return True

        def swap(session: Session) -> bool:
            matching = (StateRow.name == name, StateRow.revision == revision)
            swapped = session.execute(
                update(StateRow).where(*matching).values(value=value, revision=revision + 1).returning(StateRow.name)
            )
            return swapped.first() is not None

        try:
            return await self._database.run(swap if revision else create)
        except IntegrityError:
            return False
