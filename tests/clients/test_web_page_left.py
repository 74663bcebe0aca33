"""The page of the call when it is left, and when it comes back from the browser's cache."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.clients.fake_realtime import FakeServer
from tests.clients.muse_page import Visit

pytestmark = pytest.mark.browser


def test_leaving_ends_the_call_and_who_comes_back_can_start_another(
    visit_at: Visit, fake: FakeServer, hearing: Browser
) -> None:
    muse = visit_at(hearing, fake.url)
    muse.talk()
    muse.state("listening")
    muse.page.evaluate("dispatchEvent(new Event('pagehide'))")
    muse.state("idle")
    muse.page.wait_for_timeout(200)
    sent = len(fake.events)
    muse.page.wait_for_timeout(300)
    assert len(fake.events) == sent
    muse.talk()
    muse.state("listening")
