from __future__ import annotations

import importlib
import pkgutil

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

import routing
from routing.storage.base import Base
from routing.storage.database import Database, open_database
from routing.storage.migrate import MIGRATIONS
from routing.storage.state import StateStore


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


_REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]  # the newest first


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_an_older_database_keeps_what_it_holds(database_url: str, revision: str) -> None:
    """Written at each revision by a Muse of then, opened by this one."""
    states = "INSERT INTO states (name, value, revision) VALUES ('rollout', '{\"stage\": \"canary\"}', 7)"
    engine = create_engine(database_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text(states))
    engine.dispose()
    database = open_database(database_url)
    try:
        assert await StateStore(database).load("rollout") == ({"stage": "canary"}, 7)
        heads = await database.read(
            lambda session: MigrationContext.configure(session.connection()).get_current_heads()
        )
        assert heads == (_REVISIONS[0],)
    finally:
        database.close()


def test_one_migration_follows_the_other() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert len(scripts.get_heads()) == 1
    assert revisions[-1] == "0001_scores"
