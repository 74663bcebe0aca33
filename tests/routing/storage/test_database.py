from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from routing.storage.database import Database, open_database
from routing.storage.state import StateRow
from streaming.errors import EngineError
from tests.prerequisites import ROOT
from tests.routing.postgres import PATIENCE

SECRET = "no-one-may-read-this"


def put(name: str) -> Callable[[Session], None]:
    return lambda session: session.add(StateRow(name=name, value={}, revision=1))


def names(session: Session) -> list[str]:
    return sorted(session.scalars(text("SELECT name FROM states")))


async def test_a_transaction_counts_whole_or_not_at_all(database: Database) -> None:
    def fail(session: Session) -> None:
        put("b")(session)
        session.flush()
        raise LookupError("after all")

    await database.run(put("a"))
    with pytest.raises(LookupError, match="after all"):
        await database.run(fail)
    assert await database.read(names) == ["a"]


async def test_mistakes_of_the_transaction_are_told_as_they_are(database: Database) -> None:
    await database.run(put("a"))
    with pytest.raises(IntegrityError):
        await database.run(put("a"))


async def test_mistakes_repeat_nothing_of_what_was_to_be_kept(database: Database) -> None:
    def fail(session: Session) -> None:
        for _ in range(2):
            session.execute(insert(StateRow).values(name="a", value={"comment": SECRET}, revision=1))

    with pytest.raises(IntegrityError) as raised:
        await database.run(fail)
    assert "INSERT INTO states" in str(raised.value)
    assert SECRET not in str(raised.value)


async def test_what_is_no_json_is_kept_nowhere(database: Database) -> None:
    with pytest.raises((StatementError, ValueError), match="not JSON compliant"):
        await database.run(lambda session: session.add(StateRow(name="a", value={"x": float("nan")}, revision=1)))
    assert await database.read(names) == []


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(EngineError):
        await database.read(put("a"))
    assert await database.run(names) == []
    await database.run(put("b"))
    assert await database.read(names) == ["b"]


async def test_transactions_leave_the_loop_to_others(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: Session) -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return threading.current_thread().name

    waiting = asyncio.create_task(database.run(wait))
    while not begun.is_set():  # noqa: ASYNC110 - the other side is a thread
        await asyncio.sleep(0.001)
    assert await database.read(names) == []  # a reader beside a writer, too
    go_on.set()
    assert (await waiting).startswith("database")


async def test_read_and_then_written_is_one_after_the_other(opening: Callable[[], Database]) -> None:
    databases = opening(), opening()

    def add(session: Session) -> None:
        row = session.get(StateRow, "n", with_for_update=True)
        assert row is not None
        row.revision += 1

    await databases[0].run(put("n"))
    await asyncio.gather(*(databases[turn % 2].run(add) for turn in range(20)))
    row = await databases[0].read(lambda session: session.get(StateRow, "n"))
    assert row is not None
    assert row.revision == 21


async def test_closing_leaves_no_threads_and_no_connections(database_url: str, opening: Callable[[], Database]) -> None:
    before = {thread.name for thread in threading.enumerate()}
    closing = opening()
    await asyncio.gather(*(closing.run(names) for _ in range(8)))
    assert any(thread.name.startswith("database") for thread in threading.enumerate())
    closing.close()
    assert {thread.name for thread in threading.enumerate()} <= before
    with pytest.raises(EngineError) as refused:
        await closing.run(names)
    assert refused.value.code == "database_closed"
    if database_url.startswith("postgresql"):
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        looking = opening()
        async with asyncio.timeout(PATIENCE):
            while await looking.read(lambda session: session.scalar(text(others))):  # noqa: ASYNC110 - on the server
                await asyncio.sleep(0.01)
    else:
        path = Path(database_url.removeprefix("sqlite:///"))
        assert [file.name for file in path.parent.iterdir()] == [path.name]  # the last one out folds the log in


async def test_too_many_at_once_are_refused_and_the_rest_is_done(database: Database) -> None:
    go_on = threading.Event()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    outcomes = await asyncio.gather(
        *(database.read(lambda _: go_on.wait(PATIENCE)) for _ in range(300)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, EngineError)]
    assert {error.code for error in refused} == {"database_busy"}
    assert len(refused) == 300 - 256
    assert outcomes.count(True) == 256
    assert await database.run(names) == []


def test_processes_that_open_it_at_once_migrate_it_once(database_url: str) -> None:
    program = (
        "import sys; from routing.storage.database import open_database\n"
        f"open_database(sys.argv[1], timeout={PATIENCE}).close()"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(child.communicate()[1], child.returncode) for child in running] == [(b"", 0)] * 3


def test_who_opens_it_waits_for_another_that_migrates_it(database_url: str) -> None:
    """The other holds what a migration holds: the advisory lock, or the file."""
    held = f"SELECT pg_advisory_xact_lock({0x6D757365})" if "postgres" in database_url else "BEGIN IMMEDIATE"
    engine = create_engine(database_url, connect_args={} if "postgres" in database_url else {"isolation_level": None})
    opened = threading.Event()

    def open_it() -> None:
        open_database(database_url, timeout=PATIENCE).close()
        opened.set()

    with engine.connect() as holder:
        holder.exec_driver_sql(held)
        opening = threading.Thread(target=open_it)
        opening.start()
        assert not opened.wait(0.5)
        holder.rollback()
        assert opened.wait(PATIENCE)
    opening.join()
    engine.dispose()


def test_threads_open_different_databases_at_once(tmp_path: Path) -> None:
    """Alembic itself runs one migration at a time in a process."""
    failed: list[BaseException] = []
    start = threading.Barrier(4)

    def open_it(number: int) -> None:
        try:
            start.wait(PATIENCE)
            open_database(f"sqlite:///{tmp_path}/{number}.db", timeout=PATIENCE).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


async def test_a_newer_muses_database_is_refused_by_name(opening: Callable[[], Database]) -> None:
    def advance(session: Session) -> None:
        session.execute(text("UPDATE alembic_version SET version_num = '0099_wonders'"))

    await opening().run(advance)
    with pytest.raises(
        EngineError, match=r"newer Muse: it is at '0099_wonders', and this one knows up to '\d{4}_"
    ) as refused:
        opening()
    assert refused.value.code == "database_newer"


# --- a database that is down ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"nonsense {SECRET}", "invalid_value"),
        (f"nosuchdialect://user:{SECRET}@host/name", "invalid_value"),
        (f"mysql://user:{SECRET}@host/name", "invalid_value"),
        (f"postgresql+asyncpg://user:{SECRET}@host/name", "invalid_value"),
        (f"postgresql://user:{SECRET}@host:port/name", "invalid_value"),
        (f"postgresql://user:{SECRET}@127.0.0.1:1/name", "database_unavailable"),
        (f"postgresql://user@127.0.0.1:1/name?password={SECRET}", "database_unavailable"),
        (f"postgresql://user:{SECRET}@127.0.0.1:1/name?bogus={SECRET}", "database_unavailable"),
        ("sqlite://", "invalid_value"),
        ("sqlite:///:memory:", "invalid_value"),
        ("sqlite:///file:muse?mode=memory&uri=true", "invalid_value"),
        ("sqlite:////proc/muse.db", "database_unavailable"),
        (f"sqlite:///{ROOT}", "database_unavailable"),
        (f"sqlite:///{ROOT}/README.md", "database_unavailable"),
    ],
)
def test_what_cannot_be_opened_is_told_without_the_password(url: str, code: str) -> None:
    with pytest.raises(EngineError) as refused:
        open_database(url)
    assert refused.value.code == code
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__cause__)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "muse.db"
    open_database(f"sqlite:///{path}").close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_taken_away_takes_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, replaced: bool
) -> None:
    path = tmp_path / "muse.db"
    database = open_database(f"sqlite:///{path}")
    try:
        await database.run(put("a"))
        path.rename(tmp_path / "elsewhere.db")
        if replaced:
            open_database(f"sqlite:///{path}").close()
        for work in (database.run(put("b")), database.read(names)):
            with pytest.raises(EngineError) as raised:
                await work
            assert raised.value.code == "database_unavailable"
        assert "deleted or replaced" in caplog.text
    finally:
        database.close()


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(EngineError) as refused:
            open_database(f"postgresql://user:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/name", timeout=2)
    assert refused.value.code == "database_unavailable"
    assert time.monotonic() - began < PATIENCE


async def test_a_statement_that_hangs_is_given_up(postgres_url: str) -> None:
    open_database(postgres_url, timeout=PATIENCE).close()  # made now: that takes longer than there is then
    database = open_database(postgres_url, timeout=2)
    with pytest.raises(EngineError) as refused:
        await database.run(lambda session: session.execute(text("SELECT pg_sleep(60)")))
    assert refused.value.code == "database_unavailable"
    database.close()  # the statement's thread has ended too


async def test_a_connection_that_was_cut_is_made_anew(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    database, other = (open_database(postgres_url, timeout=PATIENCE) for _ in range(2))
    others = "datname = current_database() AND pid != pg_backend_pid()"
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    await database.run(put("a"))
    await other.run(lambda session: session.execute(text(kill)))
    assert await database.run(names) == ["a"]

    def cut(session: Session) -> None:
        names(session)
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(EngineError) as refused:
        await database.run(cut)
    assert refused.value.code == "database_unavailable"
    assert "terminating connection" in caplog.text
    assert await database.run(names) == ["a"]
    database.close()
    other.close()


async def test_a_file_that_another_program_holds_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "muse.db"
    database = open_database(f"sqlite:///{path}", timeout=4)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(EngineError) as refused:
        await database.run(put("a"))
    assert refused.value.code == "database_unavailable"
    assert await database.read(names) == []
    holder.execute("ROLLBACK")
    holder.close()
    await database.run(put("a"))
    assert await database.read(names) == ["a"]
    database.close()
