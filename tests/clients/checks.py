"""What every page must be, in each of its states."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_SCRIPTS = Path(__file__).parent / "web"

_WHEN_STEADY = """
(async () => {
  const transitions = () => document.getAnimations().filter((one) => one instanceof CSSTransition);
  while (transitions().length > 0) {
    await Promise.allSettled(transitions().map((one) => one.finished));
  }
  const faults = %s
  return faults;
})()
"""

FINGER = 24
"""px: the least height and width of what is pressed (WCAG 2.2, 2.5.8)."""


def assert_readable(page: Page) -> None:
    """Text has contrast, and everything has a name, once colours have stopped to change."""
    for script in ("contrast.js", "labels.js"):
        faults = page.evaluate(_WHEN_STEADY % (_SCRIPTS / script).read_text())
        assert not faults, faults


def assert_readable_by_day_and_night(page: Page) -> None:
    """In both colour schemes."""
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        assert_readable(page)


def assert_fits(page: Page) -> None:
    """The page itself does not scroll sideways, and what is pressed is large enough."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    small = page.locator("button:visible, summary:visible, nav a:visible, select:visible").evaluate_all(
        f"all => all.filter(one => one.getBoundingClientRect().height < {FINGER}).map(one => one.outerHTML)"
    )
    assert not small, small
