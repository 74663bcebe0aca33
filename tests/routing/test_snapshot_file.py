from __future__ import annotations

import json
import os
import stat
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing import snapshot_file
from routing.leaderboard import Dropped, Entry, Snapshot, ValidatorEntry
from routing.settings import EMBEDDED_SNAPSHOT
from routing.snapshot_file import SnapshotFileError, read, write
from streaming.errors import EngineError

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

ENTRY = Entry(
    uid=3, hotkey=HOTKEY, model="omega/moshi-a", commit=COMMIT, block=90, competition="v1", incentive=0.3, emission=1.5
)
SNAPSHOT = Snapshot(
    source="chain",
    network="finney",
    netuid=21,
    competition="v1",
    block=100,
    taken_at=1_790_000_000.25,
    entries=(ENTRY,),
    validators=(ValidatorEntry(uid=0, hotkey=HOTKEY, stake=5000.0, last_update=99),),
    dropped=(Dropped(uid=None, hotkey=HOTKEY, code="unregistered", reason="its hotkey is not registered"),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard.json"


def by_hand(**changes: Any) -> dict[str, Any]:
    """A document as a person writes it, with such fields of its one entry."""
    entry = {"uid": 0, "hotkey": None, "model": "omega/moshi-a", "commit": COMMIT, "block": 0, "competition": None}
    return {
        "format": "muse-leaderboard",
        "version": 1,
        "snapshot": {
            "source": "file",
            "network": "local",
            "netuid": 0,
            "competition": None,
            "block": 0,
            "taken_at": 0,
            "entries": [entry | {"incentive": 1} | changes],
        },
    }


def refusal(path: Path, document: Any) -> str:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(SnapshotFileError) as refused:
        read(path)
    assert refused.value.message == f"{path}: {refused.value.public.removeprefix(f'{path.name}: ')}"
    return refused.value.public.removeprefix(f"{path.name}: ")


def test_what_is_written_is_read(path: Path) -> None:
    write(path, SNAPSHOT)
    assert read(path) == SNAPSHOT


def test_the_file_may_be_indented_at_will(path: Path) -> None:
    write(path, SNAPSHOT)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7, sort_keys=True))
    assert read(path) == SNAPSHOT


def test_a_file_that_was_changed_is_refused(path: Path) -> None:
    write(path, SNAPSHOT)
    path.write_text(path.read_text().replace("0.3", "0.9"))
    with pytest.raises(SnapshotFileError, match="its sha256 is not that of its snapshot"):
        read(path)


def test_a_file_that_is_cut_off_is_refused(path: Path) -> None:
    write(path, SNAPSHOT)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotFileError, match="is not JSON"):
            read(path)


def test_one_that_is_written_by_hand_needs_no_hash(path: Path) -> None:
    path.write_text(json.dumps(by_hand()))
    [entry] = read(path).entries
    assert (entry.key, entry.incentive, entry.emission) == (f"omega/moshi-a@{COMMIT}", 1.0, 0.0)


def test_entries_come_in_order_of_their_uids(path: Path) -> None:
    document = by_hand(uid=5)
    document["snapshot"]["entries"] += by_hand(uid=2, model="omega/moshi-b")["snapshot"]["entries"]
    path.write_text(json.dumps(document))
    assert [entry.uid for entry in read(path).entries] == [2, 5]


def test_several_versions_of_one_model_stand_beside_each_other(path: Path) -> None:
    document = by_hand(uid=1)
    document["snapshot"]["entries"] += by_hand(uid=2, commit=COMMIT[::-1])["snapshot"]["entries"]
    path.write_text(json.dumps(document))
    assert [entry.model for entry in read(path).entries] == ["omega/moshi-a"] * 2


def test_the_one_that_comes_with_muse() -> None:
    snapshot = read(EMBEDDED_SNAPSHOT)
    [entry] = snapshot.entries
    assert (snapshot.source, snapshot.network) == ("file", "local")
    assert (entry.key, entry.uid, entry.hotkey, entry.incentive) == ("muse-embedded", 0, None, 1.0)


REFUSED = [
    (by_hand(incentive=1e9), "snapshot.entries[0].incentive: expected 0 to 1"),
    (by_hand(incentive=-0.1), "snapshot.entries[0].incentive: expected 0 to 1"),
    (by_hand(incentive="1"), "snapshot.entries[0].incentive: expected a number, got '1'"),
    (by_hand(incentive=True), "snapshot.entries[0].incentive: expected a number, got true"),
    (by_hand(emission=-1), "snapshot.entries[0].emission: expected 0 or more"),
    (by_hand(uid=-1), "snapshot.entries[0].uid: expected 0 to 65535"),
    (by_hand(uid=1.5), "snapshot.entries[0].uid: expected an integer, got 1.5"),
    (by_hand(block=-1), "snapshot.entries[0].block: expected 0 or more"),
    (by_hand(hotkey="me"), "snapshot.entries[0].hotkey: expected an ss58 address"),
    (by_hand(commit="main"), "snapshot.entries[0].commit: expected 40 hex digits"),
    (by_hand(commit=None), "snapshot.entries[0].commit: expected with a repository, only"),
    (by_hand(model="muse-embedded"), "snapshot.entries[0].commit: expected with a repository, only"),
    (by_hand(model="a b/c"), "snapshot.entries[0].model: expected namespace/name"),
    (by_hand(model="../../etc"), "snapshot.entries[0].model: expected namespace/name"),
    (by_hand(score=1), "snapshot.entries[0].score: is not a known parameter"),
    (by_hand(**{"\x1b[2J": 1}), "snapshot.entries[0].\\x1b[2J: is not a known parameter"),
    (by_hand() | {"version": 2}, "version: expected 1, got 2"),
    (by_hand() | {"format": "other"}, "format: expected 'muse-leaderboard'"),
    ({"format": "muse-leaderboard", "version": 1}, "snapshot: is required"),
    ([], "the document: expected an object, got an array"),
    (by_hand() | {"sha256": "0" * 64}, "its sha256 is not that of its snapshot"),
    ("", "is not JSON"),
    ("{}{}", "is not JSON"),
    ('{"version": NaN}', "is not JSON: NaN is not a number"),
    ('{"version": 1, "version": 2}', "is not JSON: a name is given twice in one object"),
    ("[" * 100_000, "is nested too deeply"),
]


@pytest.mark.parametrize(("document", "fault"), REFUSED)
def test_refused(path: Path, document: Any, fault: str) -> None:
    assert refusal(path, document).startswith(fault)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_an_incentive_that_is_no_number(path: Path, word: str) -> None:
    text = json.dumps(by_hand(incentive="WORD")).replace('"WORD"', word)
    assert "is not a number" in refusal(path, text) or "expected a finite number" in refusal(path, text)


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ({"model": "omega/moshi-b"}, "snapshot.entries[1].uid: is that of entries[0]"),
        ({"uid": 1}, "snapshot.entries[1].model: is that of entries[0]"),
        ({"uid": 1, "model": "Omega/Moshi-A"}, "snapshot.entries[1].model: is that of entries[0]"),
    ],
)
def test_one_uid_one_model(path: Path, second: dict[str, Any], fault: str) -> None:
    document = by_hand()
    document["snapshot"]["entries"] += by_hand(**second)["snapshot"]["entries"]
    assert refusal(path, document) == fault


@pytest.mark.parametrize(("name", "value"), [("netuid", 65536), ("block", -1), ("taken_at", -1.0)])
def test_a_subnet_that_cannot_be(path: Path, name: str, value: float) -> None:
    document = by_hand()
    document["snapshot"][name] = value
    assert refusal(path, document).startswith(f"snapshot.{name}: expected")


DROPPED = {"uid": None, "hotkey": HOTKEY, "code": "foreign", "reason": "is foreign"}
VALIDATOR = {"uid": 1, "hotkey": HOTKEY, "stake": 1.0, "last_update": 1}
CLEAR = "\x1b[2J"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"validators": [VALIDATOR | {"hotkey": "me"}]}, "validators[0].hotkey: expected an ss58 address"),
        ({"validators": [VALIDATOR | {"stake": -1}]}, "validators[0].stake: expected 0 or more"),
        ({"network": CLEAR}, "network: expected printable text"),
        ({"competition": CLEAR}, "competition: expected printable text"),
        *(
            ({"dropped": [DROPPED, DROPPED | {name: CLEAR}]}, f"dropped[1].{name}: expected printable text")
            for name in ("hotkey", "reason", "version")
        ),
        ({"entries": by_hand(competition=CLEAR)["snapshot"]["entries"]}, "entries[0].competition: expected printable"),
    ],
)
def test_what_is_beside_the_models_is_looked_at_too(path: Path, changes: dict[str, Any], fault: str) -> None:
    document = by_hand()
    document["snapshot"] |= changes
    assert refusal(path, document).startswith(f"snapshot.{fault}")


def test_not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SnapshotFileError, match="is not text in UTF-8"):
        read(path)


def test_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, SNAPSHOT)
    monkeypatch.setattr(snapshot_file, "MAX_BYTES", 100)
    with pytest.raises(SnapshotFileError, match="is larger than 100 bytes"):
        read(path)


def test_no_file(path: Path) -> None:
    with pytest.raises(EngineError, match=r"leaderboard.json: cannot be read: No such file"):
        read(path)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SnapshotFileError, match="is not a file"):
        read(tmp_path)


def test_a_pipe_makes_nobody_wait(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(SnapshotFileError, match="is not a file"):
        read(path)


class TestWriting:
    def test_leaves_nothing_else_behind(self, path: Path) -> None:
        write(path, SNAPSHOT)
        write(path, SNAPSHOT)
        assert list(path.parent.iterdir()) == [path]
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def test_makes_the_directory(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "b" / "leaderboard.json", SNAPSHOT)
        assert read(tmp_path / "a" / "b" / "leaderboard.json") == SNAPSHOT

    def test_is_on_the_disk_before_it_takes_the_old_ones_place(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        real_sync, real_replace = os.fsync, Path.replace

        def sync(descriptor: int) -> None:
            steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            real_sync(descriptor)

        def replace(self: Path, target: Path) -> Path:
            steps.append("replace")
            return real_replace(self, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        write(path, SNAPSHOT)
        assert steps == ["file", "replace", "directory"]

    def test_a_full_disk_leaves_the_old_one(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(path, SNAPSHOT)

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SnapshotFileError, match="cannot be written: No space left on device"):
            write(path, by_uid(9))
        assert read(path) == SNAPSHOT
        assert list(path.parent.iterdir()) == [path]

    def test_where_no_directory_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SnapshotFileError, match="cannot be written: "):
            write(tmp_path / "file" / "leaderboard.json", SNAPSHOT)

    def test_what_json_cannot_hold(self, path: Path) -> None:
        with pytest.raises(SnapshotFileError, match="cannot be written: Out of range float values"):
            write(path, by_uid(1, incentive=float("nan")))
        assert list(path.parent.iterdir()) == []


def by_uid(uid: int, *, incentive: float = 0.1) -> Snapshot:
    entry = Entry(uid=uid, hotkey=None, model="omega/m", commit=COMMIT, block=0, competition=None, incentive=incentive)
    return Snapshot(source="file", network="local", netuid=1, competition=None, block=0, taken_at=0.0, entries=(entry,))


PRINTABLE = st.characters(exclude_categories=("C", "Z"))
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
ENTRIES = st.builds(
    Entry,
    uid=st.integers(0, 65535),
    hotkey=st.none() | st.just(HOTKEY),
    model=st.builds("{}/{}".format, NAMES, NAMES),
    commit=st.text("0123456789abcdef", min_size=40, max_size=40),
    block=st.integers(0, 2**63),
    competition=st.none() | st.text(PRINTABLE, max_size=5),
    incentive=st.floats(0, 1),
    emission=st.floats(0, 1e12),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    entries=st.lists(ENTRIES, max_size=5, unique_by=(lambda entry: entry.uid, lambda entry: entry.model)),
    taken_at=st.floats(0, 1e10),
    reason=st.text(PRINTABLE, max_size=40),
)
def test_any_snapshot_is_read_as_it_was_written(path: Path, entries: list[Entry], taken_at: float, reason: str) -> None:
    snapshot = Snapshot(
        source="chain",
        network="ws://127.0.0.1:9944",
        netuid=21,
        competition=None,
        block=7,
        taken_at=taken_at,
        entries=tuple(sorted(entries, key=lambda entry: entry.uid)),
        dropped=(Dropped(uid=1, hotkey=HOTKEY, code="malformed", reason=reason),),
    )
    write(path, snapshot)
    assert read(path) == snapshot


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_in_a_file_it_is_refused_in_one_way(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotFileError):
        read(path)
