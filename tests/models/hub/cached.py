"""Snapshots of many commits in one cache, and other processes that use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.hub.cache import Place, look
from models.hub.ref import HubRef
from models.hub.settings import GB, HubSettings
from models.hub.snapshot import Snapshot, resolve
from tests.models.hub.conftest import loopback
from tests.models.hub.fake_hub import REPOSITORY, FakeHub
from tests.models.hub.files import TAKEN, checkpoint

SIZE = sum(len(checkpoint()[name]) for name in TAKEN)
"""Bytes of a snapshot."""

_ROOT = Path(__file__).parents[3]
_PROGRAM = """
import json, sys
from models.hub.settings import HubSettings
from models.hub.snapshot import resolve

settings = HubSettings(**json.loads(sys.argv[1]))
print(resolve(sys.argv[2], settings=settings, report=lambda progress: print(progress, flush=True)), flush=True)
sys.stdin.read()
"""


def room_for(settings: HubSettings, snapshots: float) -> HubSettings:
    """With a limit of so many snapshots, and a bit."""
    return settings.model_copy(update={"cache_gb": (snapshots + 0.1) * SIZE / GB})


def ref(letter: str) -> HubRef:
    return HubRef(repository=REPOSITORY, commit=letter * 40)


def place(letter: str, settings: HubSettings) -> Place:
    return Place(settings.cache, REPOSITORY, letter * 40)


def fetched(letter: str, hub: FakeHub, settings: HubSettings) -> Snapshot:
    hub.commit = letter * 40
    return resolve(ref(letter), settings=settings, resolver=loopback)


def letters(settings: HubSettings) -> str:
    """What is in the cache, that which was unused longest first; what is not whole in capitals."""
    return "".join(
        kept.place.commit[0] if kept.whole else kept.place.commit[0].upper()
        for kept in look(settings)
        if kept.whole or kept.size or kept.coming
    )


@contextmanager
def another_process(letter: str, hub: FakeHub, settings: HubSettings) -> Iterator[subprocess.Popen[str]]:
    """One that uses a snapshot, or downloads it and has come to the weights, where a hub may stall."""
    hub.commit = letter * 40
    hub.locations = {name: f"/cdn/{name}" for name in hub.files}
    patient = {"timeout_seconds": 60, "retries": 1000}
    given = json.dumps(json.loads(settings.model_dump_json(exclude_none=True)) | patient)
    command = [sys.executable, "-c", _PROGRAM, given, str(ref(letter))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("model.safetensors" in line for line in process.stdout)
            yield process
        finally:
            process.kill()
