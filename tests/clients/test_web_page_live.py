"""The page in a real Chromium, talking with the real server and its embedded engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from benchmarks.server_process import running_server
from tests.clients import microphone
from tests.clients.microphone import OnDemand, Recording
from tests.clients.muse_page import Visit
from tests.clients.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(600)]

PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server("embedded") as server:
        yield server.url


@pytest.fixture
def visit(visit_at: Visit, server: str) -> Visit:
    return partial(visit_at, url=server)


def test_a_person_is_understood_and_answered(visit: Visit, deaf: Browser, recording: Recording) -> None:
    muse = visit(deaf)
    muse.patience = PATIENCE_MS
    user = OnDemand.at(muse.page, recording("telephone-hello", microphone.RATE))
    muse.talk()
    muse.state("listening")
    user.speak(0)
    for state in ("user-speaking", "muse-speaking", "listening"):
        muse.state(state)
    page = muse.page
    expect(page.locator(".line-user")).to_contain_text(re.compile("hello", re.IGNORECASE))
    expect(page.locator(".line-muse .heard")).to_have_text(re.compile(r"\w"))
    until(lambda: muse.number("#heard") > 0.5)
    parts = muse.latency()
    assert parts["Endpointing"] > 0
    assert parts["Capture"] >= 20


def test_speaking_interrupts_muse(visit: Visit, deaf: Browser, recording: Recording) -> None:
    muse = visit(deaf)
    muse.patience = PATIENCE_MS
    user = OnDemand.at(muse.page, np.tile(recording("cities-7", microphone.RATE), 8))
    muse.talk()
    muse.state("listening")
    muse.say("Tell me a long story about the sea, with many words.")
    line = muse.page.locator(".line-muse").first
    expect(line.locator(".heard")).to_have_text(re.compile(r"\w"), timeout=PATIENCE_MS)
    user.speak(0)
    muse.state("interrupted")
    expect(line).to_contain_text("interrupted")
    expect(line.locator(".heard")).to_have_text(re.compile(r"\w"))
    expect(line.locator(".ahead")).to_have_text("")
