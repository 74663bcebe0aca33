from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from routing.file_source import FileSource
from routing.leaderboard import Entry, Snapshot, SourceState
from routing.settings import EMBEDDED_SNAPSHOT
from routing.snapshot_file import write

T0 = 1_790_000_000.0
REFRESH = 300.0
STALE = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard.json"


def source(path: Path) -> FileSource:
    return FileSource(path, refresh_seconds=REFRESH, stale_seconds=STALE)


def snapshot(model: str = "omega/moshi-a", *, taken_at: float = T0) -> Snapshot:
    entry = Entry(uid=0, hotkey=None, model=model, commit="0" * 40, block=0, competition=None, incentive=1.0)
    return Snapshot(
        source="chain", network="finney", netuid=21, competition=None, block=9, taken_at=taken_at, entries=(entry,)
    )


def change(path: Path, content: Snapshot | str) -> None:
    """Put another content there, as an editor would, at a later time."""
    later = path.stat().st_mtime_ns + 10**9 if path.exists() else 10**18
    if isinstance(content, str):
        path.write_text(content)
    else:
        write(path, content)
    os.utime(path, ns=(later, later))


def aside(path: Path) -> Path:
    return path.with_name("aside.json")


def move(path: Path, target: Path) -> None:
    path.replace(target)


def models(state: SourceState) -> list[str]:
    assert state.snapshot is not None
    return [entry.model for entry in state.snapshot.entries]


async def test_what_the_file_says(path: Path) -> None:
    change(path, snapshot(taken_at=T0 - 60))
    state = await source(path).refresh(now=T0)
    assert state == SourceState(snapshot=snapshot(taken_at=T0 - 60), age=60.0, stale=False, problem=None)


async def test_a_changed_file_is_read_when_it_is_due(path: Path) -> None:
    change(path, snapshot())
    reading = source(path)
    await reading.refresh(now=T0)
    change(path, snapshot("omega/moshi-b"))
    assert models(await reading.refresh(now=T0 + REFRESH - 1)) == ["omega/moshi-a"]
    assert models(await reading.refresh(now=T0 + REFRESH)) == ["omega/moshi-b"]


async def test_a_file_that_is_as_it_was_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(path, snapshot())
    reading = source(path)
    first = await reading.refresh(now=T0)

    def read(_path: Path) -> Snapshot:
        raise AssertionError("read again")

    monkeypatch.setattr("routing.file_source.read", read)
    assert (await reading.refresh(now=T0 + REFRESH)).snapshot is first.snapshot


async def test_a_clock_that_is_set_back_does_not_put_it_off(path: Path) -> None:
    change(path, snapshot())
    reading = source(path)
    await reading.refresh(now=T0)
    change(path, snapshot("omega/moshi-b"))
    assert models(await reading.refresh(now=T0 - 86400)) == ["omega/moshi-b"]


BROKEN = ["", "{", "[]", json.dumps({"format": "muse-leaderboard", "version": 9, "snapshot": {}})]


@pytest.mark.parametrize("content", BROKEN)
async def test_a_broken_file_leaves_the_last_good_one(path: Path, content: str) -> None:
    change(path, snapshot())
    reading = source(path)
    await reading.refresh(now=T0)
    change(path, content)
    for attempt in (1, 2, 3):
        state = await reading.refresh(now=T0 + attempt * REFRESH)
        assert models(state) == ["omega/moshi-a"]
        assert (state.age, state.failures) == (attempt * REFRESH, attempt)
        assert state.problem is not None
        assert state.problem.startswith("leaderboard.json: ")
    change(path, snapshot("omega/moshi-b"))
    state = await reading.refresh(now=T0 + 4 * REFRESH)
    assert models(state) == ["omega/moshi-b"]
    assert (state.problem, state.failures) == (None, 0)


async def test_a_file_that_is_gone_leaves_the_last_good_one(path: Path) -> None:
    change(path, snapshot())
    reading = source(path)
    await reading.refresh(now=T0)
    move(path, aside(path))
    state = await reading.refresh(now=T0 + STALE + 1)
    assert models(state) == ["omega/moshi-a"]
    assert (state.stale, state.problem) == (True, "leaderboard.json: cannot be read: No such file or directory")


async def test_a_file_that_comes_back_as_it_was_is_good_again(path: Path) -> None:
    change(path, snapshot())
    reading = source(path)
    await reading.refresh(now=T0)
    move(path, aside(path))
    await reading.refresh(now=T0 + REFRESH)
    move(aside(path), path)
    assert (await reading.refresh(now=T0 + 2 * REFRESH)).problem is None


async def test_no_file_at_all(path: Path) -> None:
    state = await source(path).refresh(now=T0)
    assert (state.snapshot, state.age, state.stale, state.failures) == (None, None, True, 1)
    assert state.problem == "leaderboard.json: cannot be read: No such file or directory"


async def test_a_copy_of_the_chain_grows_stale(path: Path) -> None:
    change(path, snapshot())
    state = await source(path).refresh(now=T0 + STALE + 1)
    assert state.stale
    assert state.problem is None


async def test_what_is_written_by_hand_holds_until_it_cannot_be_read(path: Path) -> None:
    change(path, replace(snapshot(taken_at=0.0), source="file"))
    reading = source(path)
    for now in (T0, T0 + STALE, T0 + 10 * STALE):
        state = await reading.refresh(now=now)
        assert (state.age, state.stale) == (0.0, False)
    move(path, aside(path))
    state = await reading.refresh(now=T0 + 12 * STALE)
    assert (state.age, state.stale) == (2 * STALE, True)


@pytest.mark.parametrize(("ahead", "stale"), [(STALE, False), (STALE + 1, True), (T0 * 999, True)])
async def test_a_copy_from_the_future_is_stale(path: Path, ahead: float, stale: bool) -> None:
    """In ms for s, or by a clock that was wrong, it would never grow old."""
    write(path, snapshot(taken_at=T0 + ahead))
    state = await source(path).refresh(now=T0)
    assert (state.age, state.stale) == (0.0, stale)


async def test_the_one_that_comes_with_muse_never_grows_stale() -> None:
    state = await source(EMBEDDED_SNAPSHOT).refresh(now=T0)
    assert models(state) == ["muse-embedded"]
    assert (state.age, state.stale, state.problem) == (0.0, False, None)
