"""The page of the call when it is left, and when it comes back from the browser's cache."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.clients.fake_realtime import FakeServer, Script
from tests.clients.muse_page import Visit

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer) -> None:
    fake.begin_anew(Script(turns=()))


def test_leaving_ends_the_call_and_who_comes_back_can_start_another(
    visit_at: Visit, fake: FakeServer, hearing: Browser
) -> None:
    muse = visit_at(hearing, fake.url)
    muse.talk()
    muse.state("listening")
    muse.page.evaluate("dispatchEvent(new Event('pagehide'))")
    muse.state("idle")
    fake.hears_all()
    muse.talk()
    muse.state("listening")
