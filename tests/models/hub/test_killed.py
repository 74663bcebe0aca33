"""A download whose process is killed in the middle of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.server_process import ROOT
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot
from tests.models.hub.conftest import REF
from tests.models.hub.fake_hub import FakeHub
from tests.models.hub.files import safetensors

WEIGHTS = "model.safetensors"
SIZE = 2**20
CUT = 2**19


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_the_next_goes_on_from_what_had_come(
    hub: FakeHub, settings: HubSettings, fetch: Callable[..., Snapshot]
) -> None:
    header = {"out_norm.alpha": {"dtype": "F32", "shape": [SIZE // 4], "data_offsets": [0, SIZE]}}
    hub.files = {WEIGHTS: safetensors(header, data=bytes(range(256)) * (SIZE // 256))}
    hub.locations = {WEIGHTS: f"/cdn/{WEIGHTS}"}
    hub.cuts[WEIGHTS] = [CUT]
    hub.stalled = stalled = threading.Event()
    partial = settings.cache / REF.repository.replace("/", "--") / f"{REF.commit}.partial" / WEIGHTS
    environment = {"MUSE_HUB_CACHE": str(settings.cache), "MUSE_HUB_ENDPOINT": hub.endpoint}
    environment |= {"MUSE_HUB_ALLOW_LOOPBACK": "1", "MUSE_HUB_TIMEOUT_SECONDS": "600"}
    command = [sys.executable, "-m", "models", "hub", "fetch", str(REF)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL) as process:
        try:
            while size(partial) < CUT // 2:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
    stalled.set()
    hub.stalled = None
    kept = size(partial)
    assert fetch().path(WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert [headers.get("range") for headers in hub.asked(f"cdn/{WEIGHTS}")] == [None, f"bytes={kept}-"]
