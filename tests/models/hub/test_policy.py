from __future__ import annotations

import pytest

from models.hub.errors import WeightsRefusedError
from models.hub.policy import ListedFile, check_magic, choose
from models.hub.settings import HubSettings
from tests.models.hub.files import safetensors

SETTINGS = HubSettings(max_files=20, max_file_bytes=1000, max_small_file_bytes=100, max_total_bytes=1500)
WEIGHTS = ListedFile(name="model.safetensors", size=600)


def chosen(*files: ListedFile) -> list[str]:
    return [file.name for file in choose((WEIGHTS, *files), SETTINGS)]


def test_files_of_known_kinds_are_taken_and_others_left() -> None:
    names = ["config.yaml", "spm.model", "a/b/c.wav", ".gitattributes", ".git/x.json", "voices.tgz", "LICENSE", "N.TXT"]
    files = [ListedFile(name=name, size=1) for name in names]
    assert chosen(*files) == ["N.TXT", "a/b/c.wav", "config.yaml", "model.safetensors", "spm.model"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((f"weights.{suffix}", "a pickle by its name") for suffix in ("bin", "pt", "pth", "ckpt", "pkl", "PT")),
        ("modeling_moshi.py", "code by its name"),
        ("voices/lib.so", "code by its name"),
        ("../model.json", "not a path inside"),
        ("a/../../model.json", "not a path inside"),
        ("/etc/config.json", "not a path inside"),
        ("a//b.json", "not a path inside"),
        ("./b.json", "not a path inside"),
        ("a\\b.json", "not a path inside"),
        ("..", "not a path inside"),
        ("", "not a path inside"),
        ("a\nb.json", "not a path inside"),
        ("a\u202ejson.json", "not a path inside"),
        ("a b.json", "plain characters"),
        ("ü.json", "plain characters"),
        (f"{'a' * 200}.json", "plain characters"),
        ("a/b/c/d/e.json", "4 folders deep"),
    ],
)
def test_a_name_that_must_not_be_there_is_refused(name: str, reason: str) -> None:
    with pytest.raises(WeightsRefusedError, match=reason) as refused:
        chosen(ListedFile(name=name, size=1))
    assert refused.value.file == name
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([ListedFile(name="config.json", size=101)], "config.json: too large: 101 bytes, at most 100"),
        ([ListedFile(name="b.safetensors", size=1001)], "b.safetensors: too large: 1001 bytes, at most 1000"),
        ([ListedFile(name="b.safetensors", size=901)], "the snapshot: too large: 1501 bytes in all, at most 1500"),
        ([ListedFile(name="config.json", size=-1)], "config.json: too large: -1"),
        ([ListedFile(name="model.safetensors", size=600)], "model.safetensors: listed twice"),
        ([ListedFile(name="Model.safetensors", size=600)], "model.safetensors: listed twice, but for capitals"),
        ([ListedFile(name="a.json", size=1), ListedFile(name="a.json/b.json", size=1)], "a.json: also a folder"),
        ([ListedFile(name="A/b.json/c.json", size=1), ListedFile(name="a/B.json", size=1)], "a/B.json: also a folder"),
        ([ListedFile(name=f"{n}.png", size=0) for n in range(20)], "19.png: one file too many: at most 20"),
    ],
)
def test_what_exceeds_a_limit_is_refused_before_anything_is_fetched(files: list[ListedFile], reason: str) -> None:
    with pytest.raises(WeightsRefusedError, match=reason):
        chosen(*files)


def test_a_repository_without_safetensors_is_refused() -> None:
    with pytest.raises(WeightsRefusedError, match="safetensors only"):
        choose([ListedFile(name="config.json", size=1)], SETTINGS)


@pytest.mark.parametrize(
    "head",
    [b"\x80\x02}q\x00X", b"\x80\x04\x95\x00\x00\x00\x00", b"PK\x03\x04\x14\x00", b"\x1f\x8b\x08", b"\x7fELF\x02"],
)
def test_a_file_is_known_by_its_first_bytes(head: bytes) -> None:
    with pytest.raises(WeightsRefusedError, match=r"config\.json: .* by its first bytes"):
        check_magic("config.json", head)


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x00018B1F])
def test_a_safetensors_header_of_an_unlucky_length_is_no_pickle(length: int) -> None:
    check_magic("model.safetensors", safetensors(b"{}".ljust(length))[:16])


def test_text_is_no_pickle() -> None:
    check_magic("config.json", b'{"dim": 8}')
    check_magic("empty.txt", b"")
