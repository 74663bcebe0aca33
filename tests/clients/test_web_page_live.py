"""The page in a real Chromium, talking with the real server and its embedded engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.clients import microphone
from tests.clients.microphone import Launch, Recording, silence, write_wav
from tests.clients.muse_page import Visit
from tests.clients.real_server import serving

pytestmark = [pytest.mark.browser, pytest.mark.models]

PATIENCE_MS = 45_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@pytest.fixture
def visit(visit_at: Visit, server: str) -> Visit:
    return partial(visit_at, url=server)


def test_a_person_is_understood_and_answered(
    visit: Visit, launch: Launch, recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hello = recording("telephone-hello", microphone.RATE)
    path = tmp_path_factory.mktemp("microphone") / "hello.wav"
    muse = visit(launch(write_wav(path, silence(0.5), hello, silence(60))))
    muse.patience = PATIENCE_MS
    muse.talk()
    for state in ("listening", "user-speaking", "muse-speaking", "listening"):
        muse.state(state)
    page = muse.page
    expect(page.locator(".line-user")).to_contain_text(re.compile("hello", re.IGNORECASE))
    expect(page.locator(".line-muse .heard")).to_have_text(re.compile(r"\w"))
    assert muse.number("#heard") > 0.5
    parts = muse.latency()
    assert parts["Endpointing"] > 0
    assert parts["Capture"] >= 20


def test_speaking_interrupts_muse(
    visit: Visit, launch: Launch, recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However fast the machine is, one of many stretches of speech falls into a reply."""
    speech = recording("cities-7", microphone.RATE)
    path = tmp_path_factory.mktemp("microphone") / "talker.wav"
    muse = visit(launch(write_wav(path, *[silence(3.5), speech] * 8)))
    muse.patience = PATIENCE_MS
    muse.talk()
    muse.state("listening")
    muse.say("Tell me a long story about the sea, with many words.")
    muse.state("interrupted")
    cut = muse.page.locator(".line-muse", has_text="interrupted").last
    expect(cut.locator(".heard")).to_have_text(re.compile(r"\w"))
    expect(cut.locator(".ahead")).to_have_text("")
