"""Text to phonemes, by a child process that runs eSpeak NG (`espeak_process.py`)."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from models.embedded.spoken import without_title_stops
from streaming.errors import EngineError

_PROGRAM = Path(__file__).with_name("espeak_process.py")
_LONGEST_TEXT = 2000
_LONGEST_LINE = 1 << 16


class Phonemiser:
    """One child process for all conversations; a request takes it about a millisecond.

    A child that dies or hangs is replaced: the request that met it is tried once more. Times in seconds: `timeout` is
    what an answer may take, `start_timeout` what the first of a new child may, which starts an interpreter.
    """

    def __init__(self, *, program: Path = _PROGRAM, timeout: float = 2.0, start_timeout: float = 30.0) -> None:
        self._program = program
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the child and ask it for a word. Raises EngineError where eSpeak NG is not installed."""
        await self.phonemes("en-us", "hello")

    async def phonemes(self, voice: str, text: str) -> str:
        """IPA, clauses parted by their punctuation and a space; empty where nothing can be spoken.

        `voice` is eSpeak NG's name of an accent, `text` at most 2,000 characters. Raises EngineError.
        """
        if len(text) > _LONGEST_TEXT:
            raise EngineError("the text is too long to be spoken at once", code="voice_failed")
        request = json.dumps({"voice": voice, "text": without_title_stops(text)}).encode() + b"\n"
        async with self._turn:
            for _ in range(2):
                try:
                    answer = await self._ask(request)
                except (OSError, EOFError, ValueError, TimeoutError):
                    await self._stop()
                except BaseException:
                    # An answer that nobody has read must not become the answer to the next request.
                    await self._stop()
                    raise
                else:
                    if "phonemes" not in answer:
                        raise EngineError("the text could not be turned to phonemes", code="voice_failed")
                    return answer["phonemes"]
        raise EngineError("eSpeak NG does not answer; is the espeakng-loader package installed?", code="voice_failed")

    async def close(self) -> None:
        """End the child."""
        async with self._turn:
            await self._stop()

    async def _ask(self, request: bytes) -> dict[str, str]:
        process, timeout = self._process, self._timeout
        if process is None or process.returncode is not None:
            timeout = self._start_timeout
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(self._program),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl-C is for the server, which still has turns to finish
            )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the child was started without pipes")
        async with asyncio.timeout(timeout):
            process.stdin.write(request)
            await process.stdin.drain()
            line = await process.stdout.readline()
        if not line:
            raise EOFError
        answer: dict[str, str] = json.loads(line)
        return answer

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
