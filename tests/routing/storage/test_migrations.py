from __future__ import annotations

import importlib
import pkgutil

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import routing
from routing.storage.base import Base
from routing.storage.database import Database
from routing.storage.migrate import MIGRATIONS


async def test_the_migrations_make_the_tables_that_the_code_declares(database: Database) -> None:
    for module in pkgutil.walk_packages(routing.__path__, "routing."):
        if module.name.endswith(".tables"):
            importlib.import_module(module.name)
    importlib.import_module("routing.storage.state")
    assert len(Base.metadata.tables) > 1

    differences = await database.read(
        lambda session: compare_metadata(
            MigrationContext.configure(session.connection(), opts={"compare_type": True}), Base.metadata
        )
    )
    assert differences == []


def test_one_migration_follows_the_other() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert len(scripts.get_heads()) == 1
    assert revisions[-1] == "0001_scores"
