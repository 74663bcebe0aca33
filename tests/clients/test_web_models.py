"""Choosing a model on the page, being told which one answers, and rating what it said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from playwright.sync_api import Browser, Locator, Request, expect

from tests.clients.checks import assert_fits, assert_readable, assert_readable_by_day_and_night
from tests.clients.demo_board import version
from tests.clients.fake_realtime import RATE, FakeServer, Script, Turn, running
from tests.clients.fake_routing import METADATA
from tests.clients.microphone import Recording, pcm
from tests.clients.muse_page import MusePage, Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def turn(recording: Recording) -> Turn:
    voice = pcm(recording("sphinx-002", RATE))[: RATE // 2 * 2]
    return Turn(user="Seven of clubs.", reply="Four, queen of clubs.", voice=voice)


@pytest.fixture(scope="module")
def fake(turn: Turn) -> Iterator[FakeServer]:
    with running(Script(turns=(turn,))) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer, turn: Turn) -> None:
    fake.begin_anew(Script(turns=(turn,)))


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    return partial(visit_at, url=fake.url)


def ask(muse: MusePage) -> None:
    muse.say("Good morning")
    muse.state("muse-speaking")
    muse.state("listening")


def stars(muse: MusePage) -> Locator:
    return muse.page.get_by_role("radio", name="of 5")


def responses(fake: FakeServer) -> list[str]:
    return [event["response"]["id"] for event in fake.announced if event["type"] == "response.created"]


# --- the choice of a model


def test_a_model_is_chosen_by_keyboard_remembered_and_asked_for(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    page = muse.page
    page.locator("#models summary").focus()
    page.keyboard.press("Enter")
    auto = page.get_by_role("radio", name="Auto")
    expect(auto).to_be_checked()
    expect(page.get_by_role("radio")).to_have_count(4)
    expect(page.locator(".model", has_text="kestrel/moshi-ft-2")).to_contain_text("Ready · duplex · en, fr")
    auto.focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="kestrel/moshi-ft-2")).to_be_checked()
    page.keyboard.press("Escape")
    expect(page.locator("#models summary")).to_be_focused()
    page.reload()
    expect(page.locator("#model-name")).to_have_text("kestrel/moshi-ft-2")
    muse.say("Hello")
    muse.state("muse-speaking")
    assert fake.queries == ["model=kestrel%2Fmoshi-ft-2&extensions=muse"]


def test_a_choice_takes_effect_with_the_next_call(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    ask(muse)
    muse.page.locator("#models summary").click()
    muse.page.get_by_role("radio", name="northwind/duplex-7b").check()
    expect(muse.page.locator("#model-note")).to_have_text("Takes effect with your next call.")
    muse.page.keyboard.press("Escape")
    ask(muse)
    assert len(fake.queries) == 1


def test_a_model_that_is_gone_is_told_of_and_auto_still_works(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    page = muse.page
    page.evaluate("localStorage.setItem('muse.model', JSON.stringify('omega/gone'))")
    page.reload()
    fake.routing.refused_model = "omega/gone"
    muse.say("Hello")
    expect(page.get_by_role("alert")).to_contain_text("omega/gone is not available now")
    page.locator("#models summary").click()
    expect(page.locator(".model", has_text="omega/gone")).to_contain_text("Not available now")
    page.get_by_role("radio", name="Auto").check()
    page.keyboard.press("Escape")
    muse.say("Hello")
    muse.state("muse-speaking")


def test_a_list_that_cannot_be_had_is_told_of(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.script = replace(fake.script, key="sk-right")
    page = visit(deaf).page
    page.locator("#models summary").click()
    expect(page.locator("#model-note")).to_contain_text("This server asks for a key")
    expect(page.get_by_role("radio", name="Auto")).to_be_checked()


# --- which one answers


def test_the_model_that_answers_and_why_are_told(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.metadata = {**METADATA, "muse.role": "candidate"}
    muse = visit(deaf)
    expect(muse.page.locator("#answered")).to_be_hidden()
    ask(muse)
    answered = muse.page.locator("#answered")
    expect(answered.locator("summary")).to_contain_text("omega/moshi-aria · canary")
    answered.locator("summary").click()
    expect(answered).to_contain_text(version("omega/moshi-aria"))
    reasons = [reason["text"] for reason in json.loads(METADATA["muse.reasons"])]
    expect(answered.get_by_role("listitem")).to_have_text(reasons)
    assert_readable(muse.page)


def test_a_server_that_does_not_tell_is_no_trouble(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    fake.routing.metadata = {}
    muse = visit(deaf)
    ask(muse)
    expect(muse.page.locator("#answered")).to_be_hidden()


# --- rating


def test_an_answer_is_rated_with_tags_and_a_comment(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    form = muse.page.get_by_role("form", name="Rate the answer")
    expect(form).to_be_hidden()
    ask(muse)
    expect(form.get_by_role("button", name="Send rating")).to_be_hidden()
    stars(muse).first.focus()
    for _ in range(3):
        muse.page.keyboard.press("ArrowRight")
    form.get_by_text("Fast", exact=True).click()
    form.get_by_text("Pleasant voice", exact=True).click()
    form.get_by_label("Comment").fill("  Quick and right.  ")
    form.get_by_role("button", name="Send rating").click()
    expect(form.get_by_role("status")).to_contain_text("Thank you")
    expect(form.get_by_role("status")).to_be_focused()
    expect(stars(muse).first).to_be_hidden()
    given = {"rating": 4, "tags": ["fast", "pleasant_voice"], "comment": "Quick and right."}
    assert fake.asked.feedback == [{"response_id": responses(fake)[0], **given}]


def test_stars_alone_are_enough_and_a_new_answer_can_be_rated_again(
    visit: Visit, deaf: Browser, fake: FakeServer
) -> None:
    muse = visit(deaf)
    for rating in (2, 5):
        ask(muse)
        stars(muse).nth(rating - 1).check()
        muse.page.get_by_role("button", name="Send rating").click()
        expect(muse.page.locator(".rating-outcome")).to_contain_text("Thank you")
    first, second = responses(fake)
    assert fake.asked.feedback == [
        {"response_id": first, "rating": 2, "tags": []},
        {"response_id": second, "rating": 5, "tags": []},
    ]


def test_a_rating_that_is_being_written_stays_with_its_answer(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    ask(muse)
    stars(muse).nth(0).check()
    ask(muse)
    form = muse.page.locator("#rating")
    expect(form).to_contain_text("How was the earlier answer?")
    form.get_by_role("button", name="Send rating").click()
    expect(form).to_contain_text("How was the answer?")
    expect(form.locator("input:checked")).to_have_count(0)
    assert [given["response_id"] for given in fake.asked.feedback] == responses(fake)[:1]
    stars(muse).nth(2).check()
    form.get_by_role("button", name="Cancel").click()
    expect(stars(muse).first).to_be_focused()
    expect(form.get_by_role("button", name="Send rating")).to_be_hidden()
    assert len(fake.asked.feedback) == 1


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ((409, "already_rated"), "has been rated already"),
        ((404, "response_not_found"), "can no longer be rated"),
        ((503, "no_feedback"), "could not be sent. Muse is busy"),
        ((422, "invalid_value"), "could not be sent. The server refused"),
    ],
)
def test_a_rating_that_is_refused_says_why(
    visit: Visit, deaf: Browser, fake: FakeServer, outcome: tuple[int, str], words: str
) -> None:
    fake.routing.feedback = outcome
    muse = visit(deaf)
    ask(muse)
    stars(muse).nth(3).check()
    send = muse.page.get_by_role("button", name="Send rating")
    send.click()
    expect(muse.page.locator(".rating-outcome")).to_contain_text(words)
    if outcome[0] in (404, 409):
        expect(send).to_be_hidden()
    else:
        fake.routing.feedback = (201, "")
        send.click()
        expect(muse.page.locator(".rating-outcome")).to_contain_text("Thank you")


def test_a_rating_is_sent_once(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    ask(muse)
    stars(muse).nth(3).check()
    sent: list[Request] = []

    def keep(request: Request) -> None:
        sent.append(request)

    muse.page.on("request", keep)
    muse.page.get_by_role("button", name="Send rating").dblclick()
    expect(muse.page.locator(".rating-outcome")).to_contain_text("Thank you")
    assert len([one for one in sent if one.method == "POST"]) == len(fake.asked.feedback) == 1


def test_a_new_call_begins_without_a_rating(visit: Visit, deaf: Browser, fake: FakeServer) -> None:
    muse = visit(deaf)
    ask(muse)
    expect(muse.page.locator("#rating")).to_be_visible()
    fake.hang_up(1012)
    muse.page.get_by_role("button", name="Try again").click()
    expect(muse.page.locator("#rating")).to_be_hidden()


def test_all_of_it_can_be_read_on_a_phone(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf, viewport={"width": 360, "height": 780}, has_touch=True)
    muse.page.locator("#models summary").click()
    expect(muse.page.get_by_role("radio")).to_have_count(4)
    assert_readable_by_day_and_night(muse.page)
    assert_fits(muse.page)
    muse.page.keyboard.press("Escape")
    ask(muse)
    stars(muse).nth(3).check()
    muse.page.locator("#answered summary").click()
    assert_readable_by_day_and_night(muse.page)
    assert_fits(muse.page)
