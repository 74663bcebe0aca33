"""A PostgreSQL cluster for one run of the tests, from the system's package: its own directory, user and socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.prerequisites import absent

PATIENCE = 60.0
"""Seconds: longer than anything that is asked of a database takes on a busy machine."""

_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=40")

_GUARD = 'read -r _; kill -QUIT "$1"; sleep 5; rm -rf "$2"'
"""Ends the server when we go without having done so: then the pipe that it reads is closed."""


class Cluster:
    """A running cluster. Each call of `create` makes another empty database."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory
        self._count = 0

    def create(self) -> str:
        """The URL of a new database."""
        self._count += 1
        name = f"muse_{self._count}"
        with psycopg.connect(host=str(self._socket), user="muse", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://muse@/{name}?host={self._socket}"


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one, and stop it at the end. Skips the test where PostgreSQL is not installed (fails it on CI)."""
    programs = _programs()
    # A socket's path is at most 107 characters long: not below pytest's directory.
    directory = Path(tempfile.mkdtemp(prefix="muse-pg-", dir="/tmp"))
    user = _user()
    try:
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "muse", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True,
            user=user,
            cwd=directory,
            capture_output=True,
        )
        settings = (f"unix_socket_directories={directory}", "listen_addresses=", *_QUICK)
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *(word for setting in settings for word in ("-c", setting))],
                user=user,
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the tests', which are not over before they are cleared away
            )
        try:
            with _guarded(server, directory, user):
                _wait_until_up(directory, server)
                yield Cluster(directory)
        finally:
            server.send_signal(signal.SIGQUIT)  # its "immediate" shutdown: nothing of it is kept
            server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _guarded(server: subprocess.Popen[bytes], directory: Path, user: str | None) -> Iterator[None]:
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "sh", str(server.pid), directory],
        user=user,
        cwd="/",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _programs() -> Path:
    """Where the newest version's programs are: Debian does not put them on the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        absent("PostgreSQL is not installed: run `sh tests/install_packages.sh`")
    return Path(found).parent


def _user() -> str | None:
    """Whom it runs as: PostgreSQL refuses root. None for whoever runs the tests."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait_until_up(directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(host=str(directory), user="muse", dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "log").read_text()) from None
            time.sleep(0.02)
        else:
            return
