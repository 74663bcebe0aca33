import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.recordings import recordings
from models.turn_detector import SmartTurn
from models.weights import Weights
from streaming.engine import DETECTOR_RATE, Samples, TurnDetector

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def detector() -> Iterator[SmartTurn]:
    with ThreadPoolExecutor(1) as executor:
        yield SmartTurn(Weights(), executor)


async def test_implements_the_protocol(detector: SmartTurn) -> None:
    implementation: TurnDetector = detector
    assert 0.0 <= await implementation.probability(np.zeros(DETECTOR_RATE, dtype=np.float32)) <= 1.0


@pytest.mark.parametrize(
    "audio",
    [
        np.full(DETECTOR_RATE, np.nan),
        np.full(DETECTOR_RATE, np.inf),
        np.full(DETECTOR_RATE, 0.5),
        np.zeros(20 * DETECTOR_RATE),
    ],
    ids=["nan", "infinite", "constant", "long"],
)
async def test_any_audio_gives_a_probability(detector: SmartTurn, audio: Samples) -> None:
    assert 0.0 <= await detector.probability(audio.astype(np.float32)) <= 1.0


@pytest.mark.parametrize("samples", [0, 1, 1000])
async def test_next_to_nothing_is_no_turn(detector: SmartTurn, samples: int) -> None:
    assert await detector.probability(np.zeros(samples, dtype=np.float32)) == 0.0


async def test_closing_ends_its_threads_after_the_answer_that_is_being_found() -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="test_closing")
    detector = SmartTurn(Weights(), executor)
    answer = asyncio.create_task(detector.probability(np.zeros(DETECTOR_RATE, dtype=np.float32)))
    await asyncio.sleep(0)
    await detector.close()
    assert 0.0 <= await answer <= 1.0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test_closing")]


@pytest.mark.recordings
async def test_a_finished_sentence_is_told_from_one_cut_short(detector: SmartTurn) -> None:
    finished, cut = [], []
    for recording in recordings(names=["beckett", "cities-7", "cities-8", "telephone-chicago"]):
        end = int(recording.speech_end() * DETECTOR_RATE)
        silence = np.zeros(DETECTOR_RATE // 5, dtype=np.float32)
        finished.append(await detector.probability(np.concatenate((recording.samples[:end], silence))))
        cut.append(await detector.probability(np.concatenate((recording.samples[: end // 2], silence))))
    assert np.median(finished) > 0.5
    assert np.median(finished) > np.median(cut)


@pytest.mark.recordings
async def test_only_the_last_8_seconds_count(detector: SmartTurn) -> None:
    (recording,) = recordings(names=["cities-8"])
    whole = await detector.probability(recording.samples)
    assert whole == await detector.probability(recording.samples[-8 * DETECTOR_RATE :])
