"""Processes that behave like workers, written in a line of shell."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import pytest

from routing.fleet.command import ROOT
from routing.fleet.launcher import Exit
from routing.fleet.process import WorkerProcess, tied
from tests.routing.fleet.grounds import SECONDS, command_line, until

pytestmark = pytest.mark.timeout(600)

LONG = round(3 * SECONDS)
"""How long in seconds one lives that is to be ended."""

READY = "echo '2026-01-01 00:00:00,000 INFO worker: ready: engine=m slots=2 url=ws://127.0.0.1:9' >&2; "


async def spawn(script: str) -> WorkerProcess:
    return await WorkerProcess.spawn(["sh", "-c", script], dict(os.environ))


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_gone_when_it_is_though_a_child_of_its_own_goes_on() -> None:
    process = await spawn(f"sleep {LONG} & {READY} exec sleep {LONG}")
    await process.ready()
    async with asyncio.timeout(SECONDS):
        await process.stop(SECONDS)
        assert await process.gone() == Exit(problem="the worker was killed by SIGTERM")
    os.killpg(process.pid, signal.SIGKILL)  # the child is there: else nothing was shown, and this raises


async def test_its_address_is_what_it_says_once_it_is_ready() -> None:
    process = await spawn(
        f"echo '2026-01-01 00:00:00,000 INFO worker: listening: url=ws://no:1' >&2; {READY} exec sleep 60"
    )
    assert await process.ready() == "ws://127.0.0.1:9"
    await process.stop(5)
    assert not is_there(process.pid)


async def test_nothing_that_it_repeats_of_strangers_leads_conversations_elsewhere() -> None:
    forged = READY.replace("127.0.0.1", "elsewhere")
    line = ["sh", "-c", f"{forged}{READY} exec sleep 60", "sh", "--listen=0.0.0.0:1", "--listen=127.0.0.1:0"]
    process = await WorkerProcess.spawn(line, dict(os.environ))
    assert await process.ready() == "ws://127.0.0.1:9"
    await process.stop(5)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'worker: a.safetensors: sha256' >&2; exit 2", Exit(problem="a.safetensors: sha256", refused=True)),
        ("echo '2026-01-01 00:00:00,0 ERROR worker: it has failed' >&2; exit 1", Exit(problem="it has failed")),
        ("printf 'Traceback:\\n  File\\ntorch.CudaError: full\\n' >&2; exit 1", Exit(problem="torch.CudaError: full")),
        ("printf 'worker: without an end' >&2; exit 2", Exit(problem="without an end", refused=True)),
        ("printf 'worker: \\033[31mred\\n' >&2; exit 2", Exit(problem="\\x1b[31mred", refused=True)),
        ("exit 3", Exit(problem="the worker has exited with status 3")),
        ("kill -9 $$", Exit(problem="the worker was killed by SIGKILL")),
    ],
)  # fmt: skip
async def test_one_that_goes_before_it_is_ready_says_why(script: str, told: Exit) -> None:
    process = await spawn(script)
    assert await process.ready() == told
    assert await process.gone() == told
    await process.stop(5)


async def test_one_that_served_has_not_refused_whatever_its_status() -> None:
    process = await spawn(f"{READY} sleep 0.2; exit 2")
    assert isinstance(await process.ready(), str)
    assert await process.gone() == Exit(problem="the worker has exited with status 2")
    await process.stop(5)


async def test_ctrl_c_at_the_gateways_terminal_is_not_for_it() -> None:
    process = await spawn(f"{READY} exec sleep 60")
    await process.ready()
    assert os.getsid(process.pid) == process.pid
    await process.stop(5)


async def test_one_that_does_not_obey_is_killed() -> None:
    process = await spawn(f"trap '' TERM; {READY} while true; do sleep 0.1; done")
    await process.ready()
    async with asyncio.timeout(SECONDS):
        await process.stop(0.3)
    assert not is_there(process.pid)


async def test_one_that_obeys_is_given_its_time() -> None:
    process = await spawn(
        f"trap 'sleep 0.3; echo worker: bye >&2; exit 0' TERM; {READY} while true; do sleep 0.1; done"
    )
    await process.ready()
    await process.stop(SECONDS)
    assert await process.gone() == Exit(problem="bye")


async def test_what_it_writes_without_end_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "routing.fleet.process")
    process = await spawn("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo worker: done >&2; exit 2")
    assert await process.ready() == Exit(problem="done", refused=True)
    await process.stop(5)
    assert 4096 <= max(len(record.getMessage()) for record in caplog.records) < 10_000


async def test_a_command_that_is_not_there_is_a_refusal() -> None:
    process = await WorkerProcess.spawn(["/no/python", "-m", "models"], dict(os.environ))
    assert await process.ready() == Exit(problem="cannot run /no/python: No such file or directory", refused=True)
    await process.stop(5)


_GATEWAY = """
import asyncio, os, sys
from routing.fleet.process import WorkerProcess

async def main():
    process = await WorkerProcess.spawn(["sleep", sys.argv[1]], dict(os.environ))
    print(process.pid, flush=True)
    await process.gone()

asyncio.run(main())
"""


async def test_it_does_not_outlive_a_gateway_that_is_killed() -> None:
    gateway = await asyncio.create_subprocess_exec(
        *tied([sys.executable, "-c", _GATEWAY, str(LONG)]), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert gateway.stdout is not None
    try:
        pid = int(await gateway.stdout.readline())
        await until(lambda: command_line(pid).startswith("sleep"))  # all that was to be done before it, is
    finally:
        gateway.kill()
        await gateway.wait()
    await until(lambda: not is_there(pid))


async def test_it_does_not_begin_where_the_gateway_has_gone_before_it_could_be_tied_to_it() -> None:
    line = tied(["sleep", "60"])
    line[line.index(str(os.getpid()))] = str(os.getppid())
    late = await asyncio.create_subprocess_exec(*line, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS):
        _, said = await late.communicate()
    assert said == b"worker: its parent has gone\n"
    assert late.returncode == 1
