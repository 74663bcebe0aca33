"""The leaderboard's page with what strangers write, absurd numbers, many models, large text and a wrong clock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from tests.clients.checks import assert_fits, assert_readable
from tests.clients.demo_board import demo_board, version
from tests.clients.demo_entries import Json
from tests.clients.fake_realtime import FakeServer, Script
from tests.clients.microphone import chromium_arguments
from tests.clients.muse_page import MusePage, Visit
from tests.clients.waiting import until

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
REVERSED = "\u202egnp.exe\u2066 \u05d0\u05d1\u05d2"
LONG = "x" * 300


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer) -> None:
    fake.begin_anew(Script(turns=()))


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    return partial(visit_at, url=f"{fake.url}/leaderboard.html")


@pytest.fixture(scope="module")
def large_text(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    """A browser whose user wants text twice as large."""
    arguments = [*chromium_arguments(None), "--blink-settings=defaultFontSize=32"]
    with playwright.chromium.launch(executable_path=chromium, args=arguments) as browser:
        yield browser


def loaded(muse: MusePage) -> Page:
    expect(muse.page.locator(".line").first).to_be_visible()
    return muse.page


def look_again(page: Page) -> None:
    """As after a minute in which the page was hidden."""
    page.evaluate(
        """() => {
          const turn = (value) => {
            Object.defineProperty(document, "visibilityState", { value, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
          };
          turn("hidden");
          const now = Date.now;
          Date.now = () => now() + 60_000;
          turn("visible");
        }"""
    )


def strangers(now: float) -> Json:
    """Text that is meant to do harm, wherever a stranger can put some."""
    board = demo_board(now)
    text = f"{MARKUP} {REVERSED} {LONG}"
    board["models"][0] |= {"id": text, "status_reason": text, "failure": text, "failing": True}
    board["models"][1] |= {"id": f"{LONG}/{LONG}", "languages": [LONG, MARKUP]}
    board["excluded"][0] |= {"reason": text, "model": f"{LONG}@{'a' * 40}"}
    board["validators"][0] |= {"version": text, "profile": text, "hotkey": LONG}
    board["rollout"] |= {"candidate": f"{MARKUP}@{LONG}", "reason": {"code": "x", "text": text}}
    return board | {"problem": text, "stale": True}


@pytest.mark.parametrize("width", [360, 1280])
def test_what_strangers_wrote_is_shown_as_text_and_breaks_nothing(
    visit: Visit, deaf: Browser, fake: FakeServer, width: int
) -> None:
    fake.routing.board = strangers
    page = loaded(visit(deaf, viewport={"width": width, "height": 800}, has_touch=width < 500))
    page.locator(".opener").first.click()
    expect(page.locator(".opener").first).to_contain_text(MARKUP)
    expect(page.locator("#excluded-table")).to_contain_text(MARKUP)
    expect(page.locator("main :is(img, script)")).to_have_count(0)
    assert_fits(page)
    assert_readable(page)
    heights = page.locator(".plain tbody tr:visible").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert max(heights) < 800


def absurd(now: float) -> Json:
    """Numbers that no server of ours would send, and nothing where there may be nothing."""
    board = demo_board(now)
    models = board["models"]
    models[1]["rating"] = {"value": -1e300, "low": -1e308, "high": 1e308, "votes": 10**15}
    models[2]["live"] = dict.fromkeys(models[2]["live"], 1e300) | {"gap_p95_ms": None, "errors": None}
    for standing in models[3]["metrics"].values():
        standing.update({"average": 1e308, "low": -1e308, "high": 1e308, "trend": [[1, 1e308], [1, -1e308]]})
    for standing in models[4]["metrics"].values():
        standing.update(dict.fromkeys(("average", "low", "high", "latest", "agreement", "updated_at")), trend=[])
    models[5] |= dict.fromkeys(
        ("rank", "uid", "hotkey", "block", "incentive", "emission", "mode", "languages", "live", "rating", "feedback")
    )
    models[6]["miner"] = {"emission": 1e300, "reputation": -1e300, "streak": -(10**15), "decay": -1e9, "recovery": 1e9}
    board["validators"][0] |= {"stake": 1e300, "last_update": 10**15, "last_run_at": 1e300, "agreement": 1e9}
    board["validators"][1] |= dict.fromkeys(("uid", "stake", "last_update", "last_run_at", "version", "profile"))
    board["excluded"][0] |= dict.fromkeys(("uid", "hotkey", "model"))
    return board


def test_absurd_numbers_and_nothing_at_all_stay_in_their_cells(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.board = absurd
    page = loaded(visit(deaf))
    for place in range(8):
        page.locator(".opener").nth(place).click()
    expect(page.locator(".line")).to_have_count(8)
    for text in ("NaN", "null", "undefined", "Infinity"):
        expect(page.locator("main")).not_to_contain_text(text)
    longest = page.locator(".figure").evaluate_all("all => Math.max(...all.map(one => one.textContent.length))")
    assert longest < 24
    assert_fits(page)


def many(now: float) -> Json:
    board = demo_board(now)
    copies = [
        board["models"][rank % 8]
        | {"id": f"miner-{rank}/model", "version": version(f"miner-{rank}/model"), "rank": rank}
        for rank in range(1, 257)
    ]
    return board | {"models": copies}


def test_of_many_models_only_what_changed_is_fetched_and_drawn_anew(
    visit: Visit, deaf: Browser, fake: FakeServer
) -> None:
    board = many(1_790_000_000.0)
    fake.routing.board = lambda _: board
    page = loaded(visit(deaf))
    expect(page.locator(".line")).to_have_count(256)
    page.evaluate("document.querySelectorAll('.cell-status').forEach((one) => { one.dataset.old = ''; })")
    with page.expect_response("**/v1/leaderboard"):
        look_again(page)
    until(lambda: fake.asked.unchanged > 0)
    assert fake.asked.boards - fake.asked.unchanged == 1
    board["models"][7] |= {"status": "barred"}
    look_again(page)
    expect(page.locator(".line").nth(7)).to_contain_text("Barred")
    expect(page.locator(".cell-status[data-old]")).to_have_count(255)


def test_versions_whose_names_look_alike_open_what_is_theirs(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    """A stranger may push the same commit to `a/b-c` and to `a-b/c`."""
    board = demo_board(1_790_000_000.0)
    for model, name in zip(board["models"], ("a/b-c", "a-b/c"), strict=False):
        model |= {"id": name, "version": f"{name}@{'0' * 40}"}
    fake.routing.board = lambda _: board
    page = loaded(visit(deaf))
    for opener in page.locator(".opener").all():
        opener.click()
    owners = page.locator(".opener").evaluate_all(
        """all => all.map((one) => {
          const opened = document.getElementById(one.getAttribute("aria-controls"));
          return opened.previousSibling.contains(one);
        })"""
    )
    assert all(owners)


@pytest.mark.parametrize("path", ["", "leaderboard.html", "duel.html"])
def test_text_twice_as_large_fits_on_a_phone(visit_at: Visit, large_text: Browser, fake: FakeServer, path: str) -> None:
    muse = visit_at(large_text, f"{fake.url}/{path}", viewport={"width": 360, "height": 780}, has_touch=True)
    if path == "leaderboard.html":
        loaded(muse).locator(".opener").first.click()
        expect(muse.page.locator("svg.history")).to_be_visible()
    assert_fits(muse.page)


def test_a_clock_that_is_wrong_changes_no_age(visit_at: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit_at(deaf, f"{fake.url}/healthz")
    muse.page.add_init_script("Date.now = (now => () => now() - 86_400_000)(Date.now);")
    muse.page.goto(f"{fake.url}/leaderboard.html")
    page = loaded(muse)
    expect(page.locator("#source")).to_contain_text(re.compile(r"read [45]\d s ago"))
    expect(page.locator("#rollout")).to_contain_text("Began 26 min ago.")
    expect(page.locator("#validators tbody tr").first).to_contain_text("6 min ago")
    page.locator(".opener").first.click()
    expect(page.locator(".breakdown tbody tr").first).to_contain_text("7 min ago")


def test_a_list_that_is_open_stays_as_it_is_when_the_board_is_read_again(
    visit: Visit, deaf: Browser, fake: FakeServer
) -> None:
    page = loaded(visit(deaf, viewport={"width": 360, "height": 780}))
    page.evaluate("document.querySelector('#sort option').dataset.old = ''")
    fake.routing.board = lambda now: (board := demo_board(now)) | {"models": board["models"][1:]}
    look_again(page)
    expect(page.locator(".line")).to_have_count(7)
    expect(page.locator("#sort option[data-old]")).to_have_count(1)


def test_what_is_not_served_is_named_shortly(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    board = demo_board(1_790_000_000.0)
    board["excluded"][0]["model"] = version("copycat/moshi-aria")
    fake.routing.board = lambda _: board
    name = loaded(visit(deaf)).locator("#excluded-table tbody th").first
    expect(name).to_have_text("copycat/moshi-aria")
    expect(name.locator("span")).to_have_attribute("title", version("copycat/moshi-aria"))


def test_a_column_that_goes_leaves_the_order_to_the_rank(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    page = loaded(visit(deaf))
    page.get_by_role("columnheader", name="Duels").get_by_role("button").click()
    fake.routing.board = lambda now: (
        (board := demo_board(now)) | {"models": [model | {"rating": None} for model in board["models"]]}
    )
    look_again(page)
    expect(page.get_by_role("columnheader", name="Duels")).to_have_count(0)
    expect(page.get_by_role("columnheader", name="#")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#sort")).to_have_value("rank")
