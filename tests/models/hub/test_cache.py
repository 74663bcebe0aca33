from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.hub.cache import look, remove
from models.hub.errors import WeightsUnavailableError
from models.hub.locks import let_go
from models.hub.settings import HubSettings
from models.hub.snapshot import resolve
from tests.models.hub.cached import SIZE, another_process, fetched, letters, place, ref, room_for
from tests.models.hub.conftest import loopback
from tests.models.hub.fake_hub import REPOSITORY, FakeHub, serving
from tests.models.hub.files import TAKEN, checkpoint, write_files

ROOT = Path(__file__).parents[3]
WEIGHTS = "model.safetensors"


@pytest.fixture
def filled(hub: FakeHub, settings: HubSettings) -> HubSettings:
    """A cache that holds b, c and a, unused for long in this order."""
    for letter in "abc":
        fetched(letter, hub, settings)
    let_go()
    for time, letter in enumerate("bca", start=1):
        os.utime(place(letter, settings).used, (time, time))
    return settings


class Disk(NamedTuple):
    free: int


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_usage(path: object) -> Disk:
        return Disk(free=0)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


def test_without_a_limit_nothing_is_removed(hub: FakeHub, filled: HubSettings) -> None:
    fetched("d", hub, filled)
    assert letters(filled) == "bcad"


def test_what_was_unused_longest_makes_room(hub: FakeHub, filled: HubSettings) -> None:
    settings = room_for(filled, 3)
    fetched("d", hub, settings)
    assert letters(settings) == "cad"
    assert not place("b", settings).record.exists()
    fetched("e", hub, settings)
    assert letters(settings) == "ade"


def test_a_use_counts_also_without_a_download(hub: FakeHub, filled: HubSettings) -> None:
    before = len(hub.requests)
    fetched("b", hub, filled)
    assert len(hub.requests) == before
    let_go()
    fetched("d", hub, room_for(filled, 3))
    assert letters(filled) == "abd"


def test_as_many_go_as_are_needed(hub: FakeHub, filled: HubSettings) -> None:
    fetched("d", hub, room_for(filled, 1))
    assert letters(filled) == "d"


def test_a_full_disk_makes_what_is_unused_go_where_there_is_a_limit(
    hub: FakeHub, filled: HubSettings, full_disk: None
) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"0\.00 GB free, .* no limit, so that nothing is removed"):
        fetched("d", hub, filled)
    assert letters(filled) == "bca"
    fetched("d", hub, room_for(filled, 100))
    assert letters(filled) == "cad"


def test_what_another_process_uses_stays_until_that_is_killed(hub: FakeHub, filled: HubSettings) -> None:
    settings = room_for(filled, 3)
    with another_process("b", hub, filled) as process:
        os.utime(place("b", settings).used, (1, 1))
        fetched("d", hub, settings)
        assert sorted(letters(settings)) == ["a", "b", "d"]
        let_go()
        process.kill()
        process.wait()
    os.utime(place("b", settings).used, (1, 1))
    fetched("e", hub, settings)
    assert letters(settings) == "ade"


def test_what_is_in_use_was_used_when_somebody_looked_and_in_the_end(hub: FakeHub, filled: HubSettings) -> None:
    used = place("b", filled).used
    with another_process("b", hub, filled) as process:
        os.utime(used, (1, 1))
        assert {kept.place.commit[0]: kept.in_use for kept in look(filled)} == {"b": True, "c": False, "a": False}
        assert used.stat().st_mtime > 1
        os.utime(used, (1, 1))
        process.communicate("")
        assert used.stat().st_mtime > 1
    assert letters(filled) == "cab"


def test_too_large_for_the_limit_is_refused_before_a_byte_is_fetched(hub: FakeHub, filled: HubSettings) -> None:
    hub.listed_sizes[WEIGHTS] = 15 * 10**9
    before = len(hub.asked("config.json"))
    with pytest.raises(WeightsUnavailableError) as refused:
        fetched("d", hub, filled.model_copy(update={"cache_gb": 12.5}))
    assert refused.value.code == "weights_unavailable"
    assert refused.value.message.startswith(f"{ref('d')}: no room: 15.00 GB are needed, the disk has ")
    assert "at most 12.5 GB) holds 0.00 GB; in use: nothing" in refused.value.message
    assert letters(filled) == "bca", "what would not have helped is not removed either"
    assert len(hub.asked("config.json")) == before


def test_what_is_in_use_is_named_where_it_leaves_no_room(hub: FakeHub, filled: HubSettings) -> None:
    settings = room_for(filled, 3)
    for letter in "bc":
        fetched(letter, hub, filled)
    with another_process("a", hub, filled):
        with pytest.raises(WeightsUnavailableError, match="no room") as refused:
            fetched("d", hub, settings)
        assert all(f"{ref(letter)} (" in refused.value.message for letter in "abc")
    assert sorted(letters(settings)) == ["a", "b", "c"]


def test_a_download_counts_whole_and_is_left_alone_until_it_is_killed(filled: HubSettings) -> None:
    settings = room_for(filled, 2)
    slow, quick = (FakeHub(files=checkpoint()) for _ in range(2))
    slow.stalled, slow.stalls = threading.Event(), WEIGHTS
    with serving(slow), serving(quick), ExitStack() as stack:
        theirs = settings.model_copy(update={"endpoint": slow.endpoint})
        ours = settings.model_copy(update={"endpoint": quick.endpoint})
        process = stack.enter_context(another_process("d", slow, theirs))
        assert letters(settings) == "aD", "it has made room for all of itself"
        with pytest.raises(WeightsUnavailableError, match="in use; it is not removed"):
            remove(settings, ref("d"))
        fetched("e", quick, ours)
        assert letters(settings) == "De"
        with pytest.raises(WeightsUnavailableError, match=rf"in use: .*{ref('d')}"):
            fetched("f", quick, ours)
        process.send_signal(signal.SIGKILL)
        process.wait()
        slow.stalled.set()
        os.utime(place("d", settings).used, (1, 1))
        before = len(quick.asked("config.json"))
        snapshot = fetched("d", quick, ours)
        assert {name: snapshot.path(name).read_bytes() for name in TAKEN} == {
            name: checkpoint()[name] for name in TAKEN
        }
        assert len(quick.asked("config.json")) == before, "it goes on where the killed one was"


def test_what_a_killed_download_has_left_makes_room(hub: FakeHub, filled: HubSettings) -> None:
    hub.stalled, hub.stalls = threading.Event(), WEIGHTS
    with another_process("d", hub, filled) as process:
        process.kill()
        process.wait()
    hub.stalled.set()
    hub.stalled = None
    os.utime(place("d", filled).used, (0.5, 0.5))
    assert letters(filled) == "Dbca"
    fetched("e", hub, room_for(filled, 4))
    assert letters(filled) == "bcae"
    assert not place("d", filled).partial.exists()


def test_downloads_at_once_do_not_promise_the_same_room_twice(settings: HubSettings) -> None:
    commits = "abcdef"
    start = threading.Barrier(len(commits))

    def call(letter: str, hub: FakeHub) -> str:
        limited = room_for(settings, 2).model_copy(update={"endpoint": hub.endpoint})
        start.wait()
        try:
            resolve(ref(letter), settings=limited, resolver=loopback)
        except WeightsUnavailableError as error:
            return error.reason[:8]
        return letter

    with ExitStack() as stack, ThreadPoolExecutor(len(commits)) as pool:
        hubs = [stack.enter_context(serving(FakeHub(files=checkpoint(), commit=letter * 40))) for letter in commits]
        results = list(pool.map(call, commits, hubs))
    assert results.count("no room:") == 4
    assert sorted(letters(settings)) == [result for result in results if result != "no room:"]


def test_what_becomes_whole_while_somebody_looks_is_counted(
    hub: FakeHub, settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched("d", hub, settings)
    done = place("d", settings)
    done.directory.rename(done.partial)
    walk = os.walk

    def slow_walk(directory: Path) -> list[tuple[str, list[str], list[str]]]:
        found = list(walk(directory))
        if directory == done.directory:
            done.partial.rename(done.directory)
        return found

    monkeypatch.setattr(os, "walk", slow_walk)
    (kept,) = look(settings)
    assert kept.size + kept.coming == SIZE


def test_room_is_made_by_one_at_a_time(hub: FakeHub, filled: HubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, refused = shutil.disk_usage, []

    def disk_usage(path: Path) -> Any:
        with pytest.raises(WeightsUnavailableError, match="somebody else is still making room") as told:
            remove(filled.model_copy(update={"max_seconds": 0}))
        refused.append(told)
        return usage(path)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    fetched("d", hub, filled)
    assert refused
    assert letters(filled) == "bcad"


_KILLED = """
import os, signal, sys
from pathlib import Path
from models.hub.cache import Place, make_room
from models.hub.settings import HubSettings

place = Place(Path(sys.argv[1]), sys.argv[2], "f" * 40)

def make_room_for_so_many_steps(steps):
    def step(event, arguments):
        nonlocal steps
        if event in ("os.rename", "os.remove", "os.rmdir"):
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    place.partial.mkdir(exist_ok=True)
    sys.addaudithook(step)
    make_room(place, 1, HubSettings(cache=place.cache, cache_gb=1.5e-9))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        make_room_for_so_many_steps(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def killed_after(settings: HubSettings) -> Iterator[Callable[[int], bool]]:
    """Removes what the cache holds, in a process that is killed after so many steps; False where it was done before."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _KILLED, str(settings.cache), REPOSITORY]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def run(steps: int) -> bool:
            let_go()
            stdin.write(f"{steps}\n")
            stdin.flush()
            status = int(stdout.readline())
            assert status in (0, -signal.SIGKILL)
            return status != 0

        yield run


def test_a_cache_is_whole_wherever_a_removal_was_killed(
    hub: FakeHub, settings: HubSettings, killed_after: Callable[[int], bool]
) -> None:
    expected = fetched("a", hub, settings)
    steps = 0
    while killed_after(steps):
        assert letters(settings) in ("a", "A", "")
        found = fetched("a", hub, settings)
        assert {name: found.path(name).read_bytes() for name in TAKEN} == {name: hub.files[name] for name in TAKEN}
        assert found.digest == expected.digest
        steps += 1
    assert steps > len(TAKEN), "it was killed between any two"
    assert letters(settings) == ""
    assert {path.suffix for path in settings.cache.rglob("*") if path.is_file()} == {".used", ".lock"}


def test_the_rest_of_a_killed_removal_is_removed(
    hub: FakeHub, settings: HubSettings, killed_after: Callable[[int], bool]
) -> None:
    fetched("a", hub, settings)
    assert killed_after(4)
    assert letters(settings) == "A"
    assert [kept.place.ref for kept in remove(settings, ref("a"))] == [ref("a")]
    assert letters(settings) == ""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    directory = write_files(tmp_path / "outside", checkpoint())
    yield directory
    assert {name: (directory / name).read_bytes() for name in checkpoint()} == checkpoint()


def link_home(settings: HubSettings, outside: Path) -> Path:
    link = settings.cache / "a--b"
    link.symlink_to(outside.parent / "homes")
    write_files(outside.parent / "homes" / ("a" * 40), {"model.safetensors": b"1"})
    (outside.parent / "homes" / f"{'a' * 40}.used").touch()
    return link / ("a" * 40) / "model.safetensors"


def link_directory(settings: HubSettings, outside: Path) -> Path:
    home = place("d", settings)
    home.directory.symlink_to(outside)
    home.used.touch()
    return home.directory / "config.json"


def link_with_leftovers(settings: HubSettings, outside: Path) -> Path:
    write_files(place("d", settings).partial, {"config.json": b"1"})
    return link_directory(settings, outside)


def strangers_folder(settings: HubSettings, outside: Path) -> Path:
    home = place("d", settings).directory.parent
    return write_files(home / "notes", {"config.json": b"1"}) / "config.json"


def strangers_repository(settings: HubSettings, outside: Path) -> Path:
    write_files(settings.cache / "notes", {f"{'d' * 40}.used": b""})
    return write_files(settings.cache / "notes" / ("d" * 40), {"config.json": b"1"}) / "config.json"


def without_its_file(settings: HubSettings, outside: Path) -> Path:
    """As a snapshot that was put there by hand lacks it, or one whose users could not write it."""
    return write_files(place("d", settings).directory, {"config.json": b"1"}) / "config.json"


@pytest.mark.parametrize(
    "lay",
    [link_home, link_directory, link_with_leftovers, strangers_folder, strangers_repository, without_its_file],
)
def test_what_is_not_the_caches_is_left_alone(
    hub: FakeHub, filled: HubSettings, outside: Path, lay: Callable[[HubSettings, Path], Path]
) -> None:
    there = lay(filled, outside)
    with pytest.raises(WeightsUnavailableError, match=r"not in the cache|in use; it is not removed"):
        remove(filled, ref("d"))
    assert len(remove(filled)) == 3
    fetched("e", hub, room_for(filled, 1))
    assert there.read_bytes()


def test_a_link_in_a_snapshot_is_removed_and_what_it_leads_to_is_not(filled: HubSettings, outside: Path) -> None:
    (place("a", filled).directory / "linked").symlink_to(outside)
    (place("a", filled).directory / "linked.json").symlink_to(outside / "config.json")
    remove(filled, ref("a"))
    assert letters(filled) == "bc"


def test_a_cache_that_is_not_there_holds_nothing(settings: HubSettings) -> None:
    assert look(settings) == []
    assert remove(settings) == []
    with pytest.raises(WeightsUnavailableError, match="not in the cache"):
        remove(settings, ref("a"))
    assert not settings.cache.exists()


def test_what_cannot_be_removed_is_named(filled: HubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmtree(path: Path, *more: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(WeightsUnavailableError, match=r"the disk says: Permission denied") as told:
        remove(filled, ref("b"))
    assert told.value.file == str(place("b", filled).directory)


def test_sizes_are_told(filled: HubSettings) -> None:
    assert [(kept.size, kept.coming) for kept in look(filled)] == [(SIZE, 0)] * 3
