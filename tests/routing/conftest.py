from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from routing.storage.database import Database, open_database
from tests.routing.postgres import PATIENCE, Cluster, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database may be made, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/muse.db"
    running: Cluster = request.getfixturevalue("postgres")
    return running.create()


@pytest.fixture
def opening(database_url: str) -> Iterator[Callable[[], Database]]:
    """Opens the same database again and again, as processes do that come and go."""
    opened: list[Database] = []

    def again() -> Database:
        opened.append(open_database(database_url, timeout=PATIENCE))
        return opened[-1]

    yield again
    for database in opened:
        database.close()


@pytest.fixture
def database(opening: Callable[[], Database]) -> Database:
    """An empty database of each kind."""
    return opening()


@pytest.fixture
def postgres_url(postgres: Cluster) -> str:
    """Where a database of Postgres may be made, for what only it does."""
    return postgres.create()
