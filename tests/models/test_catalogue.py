import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from models.catalogue import DetectorKind, EngineKind, EngineSettings, build_detectors, build_engine, check_engine
from models.container.engine import ContainerEngine
from models.level import LevelDetector
from models.link.engine import WorkerEngine
from streaming.errors import EngineError


@pytest.mark.parametrize("kind", ["echo", "scripted"])
async def test_engines_without_models_need_no_files(kind: EngineKind) -> None:
    engine = build_engine(kind, EngineSettings(max_sessions=1))
    await engine.start()
    session = await engine.open("s")
    await session.close()
    await engine.close()
    assert engine.info.output_rate == 24_000


async def test_their_detectors_go_by_loudness() -> None:
    detectors = build_detectors(["echo"], EngineSettings())
    stream = detectors.voice.open()
    assert await stream.probability(np.zeros(512, np.float32)) == 0
    assert await stream.probability(np.full(512, 0.1, np.float32)) == 1
    assert await detectors.turns.probability(np.zeros(512, np.float32)) == 1


@pytest.mark.models
async def test_a_chat_url_takes_the_place_of_the_small_chat_model() -> None:
    engine = build_engine("embedded", EngineSettings(chat_url="http://127.0.0.1:9/v1"))
    assert engine.info.tools
    with pytest.raises(EngineError, match="chat model cannot be reached"):
        await engine.start()
    assert not build_engine("embedded", EngineSettings()).info.tools


@pytest.mark.models
def test_numpy_keeps_to_one_thread_beside_the_embedded_models() -> None:
    with threadpool_limits(2, user_api="blas"):
        build_engine("embedded", EngineSettings())
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_no_runtime_is_imported_before_its_engine_is_asked_for() -> None:
    program = (
        "import sys; from models.catalogue import *; build_engine('echo', EngineSettings());"
        "build_detectors(['echo'], EngineSettings());"
        "print(*{'ctranslate2', 'onnxruntime', 'tokenizers', 'gguf', 'onnx', 'httpx'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    ("url", "kind"), [("ws://127.0.0.1:8998", WorkerEngine), ("http://127.0.0.1:8010", ContainerEngine)]
)
async def test_an_address_is_a_workers_or_a_containers(url: str, kind: type) -> None:
    engine = build_engine(url, EngineSettings())
    assert isinstance(engine, kind)
    await engine.close()


@pytest.mark.parametrize(
    ("addresses", "detectors"),
    [
        (["echo", "scripted"], "models"),
        (["ws://127.0.0.1:8998"], "loudness"),
        (["ws://127.0.0.1:8998", "echo"], "loudness"),
        ([], "loudness"),
    ],
)
def test_detectors_go_by_loudness_where_that_is_asked_for(addresses: list[str], detectors: DetectorKind) -> None:
    built = build_detectors(addresses, EngineSettings(detectors=detectors))
    assert isinstance(built.voice, LevelDetector)


@pytest.mark.parametrize(
    ("addresses", "detectors"),
    [
        (["ws://127.0.0.1:8998"], "models"),
        (["http://127.0.0.1:8010"], "models"),
        (["echo", "ws://127.0.0.1:8998"], "models"),
        (["embedded"], "loudness"),  # it has them
        (["echo", "embedded"], "loudness"),
        ([], "models"),
    ],
)
def test_else_they_are_models_and_never_less(addresses: list[str], detectors: DetectorKind, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="python -m models fetch"):
        build_detectors(addresses, EngineSettings(models_dir=tmp_path, detectors=detectors))


@pytest.mark.models
def test_beside_an_address_they_are_the_embedded_engines() -> None:
    detectors = build_detectors(["ws://127.0.0.1:8998"], EngineSettings())
    assert (type(detectors.voice).__name__, type(detectors.turns).__name__) == ("SileroDetector", "SmartTurn")


@pytest.mark.parametrize("name", ["", "llama", "ws://", "ftp://host:1", "127.0.0.1:8998"])
def test_what_is_neither_a_name_nor_an_address_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected embedded, echo, scripted, ws://"):
        check_engine(name)
