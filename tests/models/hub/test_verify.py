from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.policy import ListedFile
from models.hub.verify import check_contents, read_record, tree_digest, write_record


def test_anybody_can_compute_a_digest(tmp_path: Path) -> None:
    names = ["b.json", "a/z.wav", "a.txt", "A.md", "a-b.json"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    record = {name: check_contents(tmp_path / name, ListedFile(name=name, size=len(name))) for name in names}
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [tree_digest(record), "-"]
    assert tree_digest(dict(reversed(record.items()))) == tree_digest(record)


def test_a_file_of_another_size_than_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(WeightsRefusedError, match=r"a\.json: 2 bytes where 3 are expected"):
        check_contents(tmp_path / "a.json", ListedFile(name="a.json", size=3))


def test_a_record_is_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    record = {"a.json": check_contents(tmp_path / "a.json", ListedFile(name="a.json", size=2))}
    write_record(tmp_path / "deep" / "record.json", record)
    assert read_record(tmp_path / "deep" / "record.json") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]
    with pytest.raises(WeightsUnavailableError, match="cannot be written"):
        write_record(tmp_path / "a.json" / "record.json", record)
