"""One worker process: started, listened to, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from routing.fleet.command import ROOT
from routing.fleet.launcher import Exit

_log = logging.getLogger(__name__)

_TIED = str(Path(__file__).with_name("tied.py"))
_REFUSED = 2
"""The exit status of a worker that cannot serve what it was asked to."""

_READY = re.compile(r"^\S+ \S+ INFO worker: ready: .* url=(wss?://(\S+):\d+)$")
_FAULTS = (
    re.compile(r"^worker: (.+)$"),
    re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) [\w.]+: (.+)$"),
    re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception)(?:: .+)?)$"),  # a traceback's last line
)
_LAST_WORDS_SECONDS = 0.5
"""What a process that has gone may leave in its pipe, and who has inherited that may hold it open."""

_MOST_LINE = 4096
_MOST_SHOWN = 300


class WorkerProcess:
    """See `routing.fleet.launcher.Running`: a process of this machine, made by `spawn`.

    It is killed when this process is gone, however that goes.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        pipe: asyncio.ReadTransport,
        host: str | None,
    ) -> None:
        self._process = process
        self._host = host
        self._output = output
        self._pipe = pipe
        self._fault = ""  # the last that it complained of
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._follow())

    @classmethod
    async def spawn(cls, line: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
        """Start the worker's command. Raises OSError where no process can be started."""
        # A pipe of ours, since asyncio takes a process to be there until all who have inherited its pipes are gone.
        ours, its = os.pipe()
        output = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb", buffering=0)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *tied(line),
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=its,
            )
        except BaseException:
            pipe.close()
            raise
        finally:
            os.close(its)
        return cls(process, output, pipe, _host(line))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> str | Exit:
        """See `Running.ready`."""
        gone = asyncio.create_task(self.gone())
        try:
            await asyncio.wait((self._ready, gone), return_when=asyncio.FIRST_COMPLETED)
            return self._ready.result() if self._ready.done() else await gone
        finally:
            gone.cancel()

    async def gone(self) -> Exit:
        """See `Running.gone`."""
        status = await self._process.wait()
        await self._last_words()
        refused = status == _REFUSED and not self._ready.done()
        return Exit(problem=self._fault or _explain(status), refused=refused)

    async def stop(self, patience: float) -> None:
        """See `Running.stop`."""
        self._signal(signal.SIGTERM)
        gone = asyncio.create_task(self._process.wait())
        await asyncio.wait((gone,), timeout=patience)
        self._signal(signal.SIGKILL)
        await gone
        await self._last_words()

    async def _last_words(self) -> None:
        await asyncio.wait((self._reader,), timeout=_LAST_WORDS_SECONDS)
        self._pipe.close()
        await asyncio.wait((self._reader,))

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _follow(self) -> None:
        async for line in self._lines():
            _log.info("worker %d: %s", self.pid, line)
            if (found := _READY.match(line)) and not self._ready.done() and self._host in (None, found[2]):
                self._ready.set_result(found[1])
            for pattern in _FAULTS:
                if fault := pattern.match(line):
                    self._fault = fault[1][:_MOST_SHOWN]

    async def _lines(self) -> AsyncIterator[str]:
        """What it writes, until it is gone; a line longer than can be is cut."""
        rest = b""
        while data := await self._output.read(_MOST_LINE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield _printable(line)
            rest = rest[:_MOST_LINE]
        if rest:
            yield _printable(rest)


def tied(line: Sequence[str]) -> list[str]:
    """The command, killed when this process is gone, however that goes. See `routing.fleet.tied`."""
    return [sys.executable, "-I", "-S", _TIED, str(os.getpid()), *line]


def _host(line: Sequence[str]) -> str | None:
    """Where it is told to listen. What libraries write of a stranger's files must not lead conversations elsewhere."""
    listens = [word.removeprefix("--listen=") for word in line if word.startswith("--listen=")]
    return listens[-1].rpartition(":")[0] if listens else None


def _printable(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip()
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _explain(status: int) -> str:
    if status >= 0:
        return f"the worker has exited with status {status}"
    return f"the worker was killed by {signal.Signals(-status).name}"
