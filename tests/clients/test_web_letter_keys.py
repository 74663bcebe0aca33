"""Keys of one letter on the page, and that they can be switched off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clients.checks import assert_readable_by_day_and_night
from tests.clients.fake_realtime import FakeServer
from tests.clients.muse_page import Visit

pytestmark = pytest.mark.browser


@pytest.fixture
def page(visit_at: Visit, fake: FakeServer, deaf: Browser) -> Page:
    return visit_at(deaf, fake.url).page


def press_m(page: Page, *, on: str) -> None:
    page.locator(on).focus()
    page.keyboard.press("m")


def muted(page: Page, *, is_so: bool) -> None:
    expect(page.locator("#mute")).to_have_attribute("aria-pressed", f"{is_so}".lower())


def test_a_letter_that_is_written_into_something_is_no_command(page: Page) -> None:
    press_m(page, on="#talk")
    muted(page, is_so=True)
    press_m(page, on="#message")
    expect(page.locator("#message")).to_have_value("m")
    page.get_by_text("Settings", exact=True).click()
    press_m(page, on="#microphone")
    muted(page, is_so=True)
    press_m(page, on="#letter-keys")
    muted(page, is_so=False)


@pytest.mark.parametrize("modifier", ["Control", "Alt", "Meta"])
def test_with_a_modifier_it_is_another_key(page: Page, modifier: str) -> None:
    page.keyboard.press(f"{modifier}+m")
    muted(page, is_so=False)


def test_they_can_be_switched_off_and_that_is_remembered(page: Page, fake: FakeServer) -> None:
    key = page.locator("#mute kbd")
    expect(key).to_be_visible()
    expect(page.locator("#mute")).to_have_attribute("aria-keyshortcuts", "M")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("One-letter key").uncheck()
    assert_readable_by_day_and_night(page)
    for _ in range(2):
        expect(key).to_be_hidden()
        expect(page.locator("#mute")).not_to_have_attribute("aria-keyshortcuts", "M")
        press_m(page, on="#talk")
        muted(page, is_so=False)
        page.reload()
    page.goto(f"{fake.url}/duel.html")
    expect(page.locator("#letter-keys")).not_to_be_checked()
    page.goto(fake.url)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("One-letter key").check()
    press_m(page, on="#talk")
    muted(page, is_so=True)
