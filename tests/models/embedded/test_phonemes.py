# ruff: noqa: RUF001 - phonemes are letters that look like others
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.embedded.phonemes import Phonemiser
from streaming.errors import EngineError


@pytest.fixture
async def phonemiser() -> AsyncIterator[Phonemiser]:
    child = Phonemiser()
    yield child
    await child.close()


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello there.", "həlˈoʊ ðˈɛɹ."),
        ("Yes, it is.", "jˈɛs, ɪɾ ˈɪz."),
        ("Yes! No? Well; so: end", "jˈɛs! nˈoʊ? wˈɛl; sˈoʊ: ˈɛnd"),
        ('"Yes," he said. (No.)', "jˈɛs, hiː sˈɛd. nˈoʊ."),
        ("It is 3.5", "ɪɾ ɪz θɹˈiː pɔɪnt fˈaɪv"),
        ("Ask Dr. Smith.", "ˈæsk dˈɑːktɚ smˈɪθ."),
        ("one — two", "wˌʌn, tˈuː"),
        ("...", ""),
        ("", ""),
    ],
)
async def test_phonemes_with_their_punctuation(phonemiser: Phonemiser, text: str, phonemes: str) -> None:
    assert await phonemiser.phonemes("en-us", text) == phonemes


async def test_answers_do_not_get_mixed_up(phonemiser: Phonemiser) -> None:
    words = ["one", "two", "three", "four"] * 5
    alone = {word: await phonemiser.phonemes("en-us", word) for word in set(words)}
    together = await asyncio.gather(*(phonemiser.phonemes("en-us", word) for word in words))
    assert together == [alone[word] for word in words]


async def test_a_child_that_dies_is_replaced(phonemiser: Phonemiser) -> None:
    before = await phonemiser.phonemes("en-us", "hello")
    assert phonemiser._process is not None
    os.kill(phonemiser._process.pid, signal.SIGKILL)
    assert await phonemiser.phonemes("en-us", "hello") == before


async def test_a_cancelled_request_leaves_no_answer_behind(phonemiser: Phonemiser) -> None:
    one = await phonemiser.phonemes("en-us", "one")
    for _ in range(5):
        task = asyncio.create_task(phonemiser.phonemes("en-us", "two"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await phonemiser.phonemes("en-us", "one") == one


async def test_a_voice_that_does_not_exist_is_an_engine_error(phonemiser: Phonemiser) -> None:
    with pytest.raises(EngineError, match="phonemes"):
        await phonemiser.phonemes("no-such-voice", "hello")
    assert await phonemiser.phonemes("en-us", "hello")


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "raise SystemExit(1)", "print('not json')"])
async def test_a_program_that_does_not_work_is_an_engine_error(tmp_path: Path, program: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    child = Phonemiser(program=path, start_timeout=0.3)
    with pytest.raises(EngineError, match="does not answer"):
        await child.start()
    await child.close()


async def test_a_child_that_hangs_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import pathlib, sys, time\n"
        "runs = pathlib.Path(__file__).with_name('runs')\n"
        "runs.open('a').write('.')\n"
        "for count, _ in enumerate(sys.stdin):\n"
        "    if count and runs.read_text() == '.': time.sleep(60)\n"
        '    print(\'{"phonemes": "x"}\', flush=True)\n'
    )
    child = Phonemiser(program=path, timeout=0.3)
    assert [await child.phonemes("en-us", "hello") for _ in range(2)] == ["x", "x"]
    assert (tmp_path / "runs").read_text() == ".."
    await child.close()


async def test_too_long_a_text_is_refused(phonemiser: Phonemiser) -> None:
    with pytest.raises(EngineError, match="too long"):
        await phonemiser.phonemes("en-us", "word " * 1000)
