"""The leaderboard's page in a real Chromium, from a scripted server."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.clients.checks import assert_fits, assert_readable, assert_readable_by_day_and_night
from tests.clients.demo_board import demo_board, embedded_board, empty_board
from tests.clients.demo_entries import Json
from tests.clients.fake_realtime import FakeServer, Script
from tests.clients.muse_page import MusePage, Visit, held, timers_fire

pytestmark = pytest.mark.browser

EIGHT = [
    "omega/moshi-aria",
    "northwind/duplex-7b",
    "kestrel/moshi-ft-2",
    "aurora-lab/halo-voice",
    "tidepool/speak-mini",
    "mirador/echo-large",
    "pelagic/whisper-duo",
    "quill/first-light",
]


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer) -> None:
    fake.begin_anew(Script(turns=()))


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    return partial(visit_at, url=f"{fake.url}/leaderboard.html")


def names(page: Page) -> Locator:
    return page.locator(".line .opener")


def row(page: Page, model: str) -> Locator:
    return page.locator(".line", has=page.get_by_role("button", name=model))


def loaded(muse: MusePage) -> Page:
    expect(muse.page.locator(".line").first).to_be_visible()
    return muse.page


def without_scores(now: float) -> Json:
    board = demo_board(now)
    return board | {"models": [model | {"metrics": {}} for model in board["models"]], "metrics": []}


def test_every_model_is_shown_with_what_is_known_of_it(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf))
    expect(names(page)).to_have_text(EIGHT)
    leader = row(page, "omega/moshi-aria")
    for text in ("Serving", "95 % of new calls", "Leads", "0.648", "296", "/ 418 ms", "1,561", "± 24", "4.4", "41 %"):
        expect(leader).to_contain_text(text)
    expect(leader.locator("svg.chart-interval").nth(1)).to_be_attached()
    expect(leader.locator("svg.chart-spark")).to_have_count(1)
    expect(row(page, "pelagic/whisper-duo")).to_contain_text("Failing")
    best = page.locator("[data-column=rating]", has_text="best of all")
    expect(best).to_have_count(1)
    expect(leader.locator("[data-column=rating]")).to_have_class(re.compile(r"\bbest\b"))
    for model, change in {
        "kestrel/moshi-ft-2": "flat",
        "omega/moshi-aria": "good",
        "mirador/echo-large": "bad",
    }.items():
        expect(row(page, model).locator(".change")).to_contain_class(change)
    unscored = row(page, "quill/first-light").locator("[data-column='metric:total']")
    expect(unscored).to_contain_text("not known")


def test_intervals_are_drawn_to_the_scale_of_their_column(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf))
    cells = page.locator("[data-column=rating]:not(.nothing)")
    places = cells.locator(".dot").evaluate_all("all => all.map(one => Number(one.getAttribute('x')))")
    widths = cells.locator(".band").evaluate_all("all => all.map(one => Number(one.getAttribute('width')))")
    assert places == sorted(places, reverse=True), "the ratings of the demo fall from row to row"
    halves = [24, 61, 31, 45, 52, 70]
    assert sorted(range(6), key=widths.__getitem__) == sorted(range(6), key=halves.__getitem__)


def test_it_tells_where_it_comes_from_and_what_is_under_way(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf))
    source = page.get_by_role("list", name="Where this comes from")
    for text in ("Chain finney", "netuid 21", "competition v1", "block 5,213,402"):
        expect(source).to_contain_text(text)
    expect(source).to_contain_text(re.compile(r"read [45]\d s ago"))
    rollout = page.get_by_role("region", name="Canary 5 %: northwind/duplex-7b is on its way in")
    expect(rollout).to_contain_text("95 % omega/moshi-aria")
    expect(rollout.locator("[aria-current=step]")).to_have_text("Canary")


@pytest.mark.parametrize(
    ("stage", "headline"),
    [
        ("watching", "leads, and is being watched"),
        ("gated", "leads, but its scores do not let it in"),
        ("loading", "is being loaded"),
        ("shadow", "hears some calls, and nobody hears it"),
        ("rolled_back", "was rolled back"),
    ],
)
def test_each_stage_of_a_rollout_has_its_words(
    visit: Visit, deaf: Browser, fake: FakeServer, stage: str, headline: str
) -> None:
    fake.routing.board = lambda now: (board := demo_board(now)) | {"rollout": board["rollout"] | {"stage": stage}}
    page = loaded(visit(deaf))
    expect(page.locator("#rollout-title")).to_have_text(f"northwind/duplex-7b {headline}")
    expect(page.locator(".traffic")).to_contain_text("100 % omega/moshi-aria")


def test_excluded_entries_and_validators_are_told(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf))
    excluded = page.get_by_role("region", name="Not served")
    expect(excluded.get_by_role("row", name="copycat/moshi-aria")).to_contain_text("reused hash")
    expect(excluded).to_contain_text("588 blocks ahead")
    validators = page.get_by_role("region", name="Validators").locator("tbody tr")
    expect(validators).to_have_count(4)
    expect(validators.last).to_contain_text("0.0.9")
    expect(validators.last).to_contain_text("81 %")


def test_a_header_sorts_by_keyboard_and_keeps_the_focus(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf))
    score = page.get_by_role("columnheader", name="Score").get_by_role("button")
    score.focus()
    page.keyboard.press("Enter")
    expect(names(page).first).to_have_text("northwind/duplex-7b")
    expect(names(page).nth(1)).to_have_text("omega/moshi-aria")
    expect(page.get_by_role("columnheader", name="Score")).to_have_attribute("aria-sort", "descending")
    expect(score).to_be_focused()
    page.keyboard.press("Enter")
    expect(names(page).first).to_have_text("pelagic/whisper-duo")
    expect(names(page).last, "what has no score is last, either way").to_have_text("quill/first-light")


def test_columns_are_chosen_and_remembered(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf)
    page = loaded(muse)
    expect(page.get_by_role("columnheader", name="Reputation")).to_have_count(0)
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Reputation").check()
    page.get_by_label("Emission").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Reputation")).to_be_hidden()
    for _ in range(2):
        expect(page.get_by_role("columnheader", name="Reputation")).to_be_visible()
        expect(page.get_by_role("columnheader", name="Emission")).to_have_count(0)
        page.reload()
        loaded(muse)


def test_a_row_opens_to_its_metrics_and_their_history(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    page = loaded(visit(deaf))
    opener = page.get_by_role("button", name="omega/moshi-aria")
    opener.focus()
    page.keyboard.press("Enter")
    expect(opener).to_have_attribute("aria-expanded", "true")
    detail = page.locator(".below:visible")
    expect(detail.get_by_role("img", name=re.compile(r"^Score of .*: \d+ scorings by 4 val"))).to_be_visible()
    expect(detail).to_contain_text("it leads the ranking")
    expect(detail).to_contain_text("3,120 turns in 446 calls")
    detail.get_by_role("button", name="Turn latency").click()
    expect(detail.get_by_role("img", name=re.compile(r"^Turn latency of"))).to_be_visible()
    average = detail.locator("path.average")
    month = average.get_attribute("d") or ""
    detail.get_by_role("button", name="7 days").click()
    expect(detail.get_by_role("img", name=re.compile(r"^Turn latency of .*: 60 scorings"))).to_be_visible()
    week = average.get_attribute("d") or ""
    assert month.count("L") > 2 * week.count("L") > 2, "only what is in the period is drawn"
    asked = fake.asked.history
    assert [(one["metric"], one["days"]) for one in asked] == [
        ("total", "30"),
        ("turn_latency", "30"),
        ("turn_latency", "7"),
    ]
    assert asked[0]["model"].startswith("omega/moshi-aria@")
    assert_readable(page)
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".below:visible")).to_have_count(0)


def test_a_refresh_closes_nothing_and_takes_no_focus(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    before = demo_board(1_790_000_000.0)
    fake.routing.board = lambda _: before
    page = loaded(visit(deaf))
    opener = page.get_by_role("button", name="northwind/duplex-7b")
    opener.click()
    expect(page.locator(".below:visible svg.history")).to_be_visible()
    turn_visibility(page, "hidden")
    fake.routing.board = lambda _: before | {"models": before["models"][1:]}
    page.evaluate("Date.now = (now => () => now() + 60_000)(Date.now)")
    asked = asked_for(page)
    turn_visibility(page, "visible")
    expect(page.locator(".line")).to_have_count(7)
    expect(opener).to_be_focused()
    expect(page.locator(".below:visible svg.history")).to_be_visible()
    assert asked[0].endswith("/v1/leaderboard")
    assert not [url for url in asked if "history" in url], "the scores are the same"


def asked_for(page: Page) -> list[str]:
    """The addresses that the page asks for from now on."""
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    return asked


def turn_visibility(page: Page, state: str) -> None:
    page.evaluate(
        """state => {
          Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_the_embedded_default_looks_as_it_is_meant_to(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.board = embedded_board
    page = loaded(visit(deaf))
    expect(page.locator("#rollout-title")).to_have_text("muse-embedded answers every call")
    expect(page.get_by_role("region", name="One model, and it comes with Muse")).to_be_visible()
    expect(page.get_by_role("list", name="Where this comes from")).to_contain_text("Snapshot file")
    expect(page.get_by_role("columnheader"), "no column without data").to_have_text(["#", "Model", "Status"])
    for name in ("Validators", "Not served"):
        expect(page.get_by_role("region", name=name)).to_be_hidden()
    asked = asked_for(page)
    page.get_by_role("button", name="muse-embedded").click()
    expect(page.locator(".detail")).to_contain_text("Serving: it leads the ranking")
    expect(page.locator(".over-time")).to_be_hidden()
    assert not [url for url in asked if "history" in url]


def test_an_empty_leaderboard_says_why(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.board = partial(empty_board, problem="the chain could not be reached")
    page = visit(deaf).page
    expect(page.locator("#empty")).to_contain_text("The chain could not be reached.")
    expect(page.locator("#standings")).to_be_hidden()
    expect(page.locator("#rollout")).to_be_hidden()


def test_a_stale_leaderboard_says_so(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    old = {"stale": True, "age_seconds": 8400.0, "problem": "the chain did not answer within 60 s"}
    fake.routing.board = lambda now: demo_board(now) | old
    page = loaded(visit(deaf))
    banner = page.get_by_role("status").filter(has_text="This leaderboard is 2 h old")
    expect(banner).to_contain_text("the chain did not answer within 60 s")


def test_models_without_a_leaderboard_are_not_called_an_old_one(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    unread = {"stale": True, "age_seconds": None, "taken_at": None, "problem": "board.json: is not JSON"}
    fake.routing.board = lambda now: demo_board(now) | unread
    page = loaded(visit(deaf))
    banner = page.get_by_role("status").filter(has_text="No leaderboard has been read yet")
    expect(banner).to_contain_text("It could not be read: board.json: is not JSON.")
    expect(banner).not_to_contain_text("old")


def test_before_anything_is_known_it_says_that_it_is_being_read(
    visit_at: Visit, deaf: Browser, fake: FakeServer
) -> None:
    muse = visit_at(deaf, f"{fake.url}/healthz")
    with held(muse.page, "**/v1/leaderboard"):
        muse.page.goto(f"{fake.url}/leaderboard.html")
        expect(muse.page.get_by_role("status").filter(has_text="being read")).to_be_visible()
        assert_readable(muse.page)
    expect(names(muse.page)).to_have_text(EIGHT)


def test_a_server_that_fails_is_told_and_tried_again(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.board_status = 500
    page = visit(deaf).page
    expect(page.get_by_role("alert")).to_contain_text("Something went wrong here.")
    fake.routing.board_status = 200
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".line")).to_have_count(8)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_what_was_there_stays_when_the_server_is_gone(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf)
    page = loaded(muse)
    turn_visibility(page, "hidden")
    muse.page.context.set_offline(True)
    page.evaluate("Date.now = (now => () => now() + 60_000)(Date.now)")
    turn_visibility(page, "visible")
    expect(page.get_by_role("status").filter(has_text="Muse cannot be reached")).to_be_visible()
    expect(page.locator("#banner")).to_contain_text("Trying again in 30 s")
    expect(names(page)).to_have_text(EIGHT)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_key_is_asked_for_and_kept_for_the_tab(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.script = replace(fake.script, key="sk-right")
    muse = visit(deaf)
    key = muse.page.get_by_label("API key")
    expect(key).to_be_focused()
    muse.page.keyboard.type("not a key")
    muse.page.keyboard.press("Enter")
    assert key.evaluate("one => one.validity.patternMismatch"), "no browser could send it"
    key.fill(" sk-wrong ")
    muse.page.keyboard.press("Enter")
    expect(muse.page.get_by_role("alert")).to_contain_text("That key is not valid here")
    expect(key).to_have_value("")
    expect(key).to_be_focused()
    asked = asked_for(muse.page)
    turn_visibility(muse.page, "hidden")
    muse.page.evaluate("Date.now = (now => () => now() + 600_000)(Date.now)")
    turn_visibility(muse.page, "visible")
    timers_fire(muse.page)
    assert asked == [], "without a key it does not ask"
    muse.page.keyboard.type("sk-right")
    muse.page.keyboard.press("Enter")
    expect(names(muse.page)).to_have_text(EIGHT)
    expect(muse.page.get_by_role("alert")).to_be_hidden()


def test_it_can_be_read_in_every_state(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    boards = (demo_board, embedded_board, without_scores, partial(empty_board, problem="nothing has been read yet"))
    for board in boards:
        fake.routing.board = board
        page = visit(deaf).page
        expect(page.locator("body.loaded")).to_be_visible()
        assert_readable_by_day_and_night(page)


@pytest.mark.parametrize("width", [360, 820, 1280, 1920])
def test_nothing_overflows(visit: Visit, deaf: Browser, width: int) -> None:
    page = loaded(visit(deaf, viewport={"width": width, "height": 800}, has_touch=width < 500))
    page.get_by_role("button", name="omega/moshi-aria").click()
    expect(page.locator("svg.history")).to_be_visible()
    assert_fits(page)
    page.get_by_text("Columns", exact=True).click()
    assert_fits(page)
    if width == 360:
        expect(page.get_by_label("Sort by")).to_be_visible()
        page.get_by_label("Sort by").select_option("Score")
        expect(names(page).first).to_have_text("northwind/duplex-7b")


def test_with_reduced_motion_nothing_moves(visit: Visit, deaf: Browser) -> None:
    page = loaded(visit(deaf, reduced_motion="reduce"))
    page.get_by_role("button", name="omega/moshi-aria").click()
    assert page.evaluate("document.getAnimations().length") == 0
