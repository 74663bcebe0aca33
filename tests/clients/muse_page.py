"""The page as a test uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

from tests.clients.waiting import PATIENCE

_WATCH = """
{
  const states = [];
  let from = 0;
  new MutationObserver(() => {
    const { state } = document.body.dataset;
    if (state && state !== states.at(-1)) {
      states.push(state);
    }
  }).observe(document, { subtree: true, attributeFilter: ["data-state"] });
  window.comesTo = (state) => {
    const at = states.indexOf(state, from);
    from = at < 0 ? from : at + 1;
    return at >= 0;
  };
}
"""
"""Keeps the page's states: some last no longer than a look at the page may take."""


@dataclass
class MusePage:
    """An open page, and what it complained about. `patience`: ms to wait for a state."""

    page: Page
    patience: float = 1000 * PATIENCE
    complaints: list[str] = field(default_factory=list)

    def state(self, name: str) -> None:
        """Wait until the page comes to this state, after the one that was waited for before."""
        self.page.wait_for_function("state => comesTo(state)", arg=name, timeout=self.patience)

    def talk(self) -> None:
        """Press the button."""
        self.page.get_by_role("button", name="Start talking").click()

    def say(self, text: str) -> None:
        """Type a message."""
        self.page.get_by_label("Message to Muse").fill(text)
        self.page.keyboard.press("Enter")

    def number(self, selector: str) -> float:
        """The first number in an element."""
        found = re.search(r"[\d.]+", self.page.locator(selector).text_content() or "")
        assert found, selector
        return float(found.group())

    def latency(self) -> dict[str, int]:
        """The parts of the newest turn, in ms, which add up wherever they are shown."""
        total = int(self.page.locator("#latency-total").text_content() or "")
        newest = self.page.locator(".bar").first.locator(".segment")
        segments = newest.evaluate_all("all => all.map(one => Number(one.dataset.ms))")
        legend = self.page.locator("#latency-legend .part-value").all_text_contents()
        header = self.page.locator("#latency-table thead th").all_text_contents()[1:]
        cells = self.page.locator("#latency-table tbody tr").first.locator("td").all_text_contents()
        row = [int(text) for text in cells]
        assert sum(segments) == sum(map(int, legend)) == sum(row[:-1]) == row[-1] == total
        widths = newest.evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
        assert np.corrcoef(widths, segments)[0, 1] > 0.99
        return dict(zip(header, row, strict=True))


Visit = Callable[..., MusePage]
"""A browser, and options of its context -> the page."""


def open_page(browser: Browser, url: str, **options: object) -> MusePage:
    """The page at `url`, in a context of its own; `options` are the context's."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.add_init_script(_WATCH)
    muse = MusePage(context.new_page())
    muse.page.on("pageerror", lambda error: muse.complaints.append(str(error)))
    muse.page.on("console", lambda message: _note(muse, message))
    muse.page.goto(url)
    return muse


def _note(muse: MusePage, message: ConsoleMessage) -> None:
    """Chromium itself logs a refused request; anything else on the console, a CSP violation too, is a defect."""
    refused = "Failed to load resource" in message.text or "WebSocket connection to" in message.text
    if message.type in ("error", "warning") and not refused:
        muse.complaints.append(message.text)


@contextmanager
def held(page: Page, url: str) -> Iterator[list[Route]]:
    """Requests to `url` wait meanwhile, and are listed; those that nobody answers reach the server afterwards.

    One that was never answered would be a task of Playwright's that is destroyed unfinished, in some later test.
    """
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route(url, hold)
    try:
        yield waiting
    finally:
        for route in waiting:
            route.continue_()
        page.unroute(url, hold)


def timers_fire(page: Page) -> None:
    """Wait until all that the page has set to happen at once has happened."""
    page.evaluate("new Promise((resolve) => setTimeout(() => setTimeout(resolve)))")
