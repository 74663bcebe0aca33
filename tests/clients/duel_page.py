"""The page of the duel as a test uses it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import numpy as np
from playwright.sync_api import Locator, Page, expect

from tests.clients.fake_realtime import Conversation
from tests.clients.microphone import Samples

ASKED_SECONDS = 0.9


def phase(page: Page, name: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-phase", name)


def record(page: Page, begin: Callable[[], object]) -> None:
    """Speak the question."""
    page.evaluate(WATCH_CHUNKS)
    begin()
    phase(page, "recording")
    page.wait_for_function("seconds => 0.02 * chunks >= seconds", arg=ASKED_SECONDS)


WATCH_CHUNKS = """
window.chunks = 0;
window.AudioWorkletNode = class extends AudioWorkletNode {
  constructor(...given) {
    super(...given);
    this.port.addEventListener("message", ({ data }) => {
      window.chunks += data.chunk ? 1 : 0;
    });
  }
};
null;
"""
"""Counts what of the microphone has come to the page."""


def ask(page: Page) -> None:
    """Speak the question, and be done with it."""
    record(page, page.get_by_role("button", name="Ask a question").click)
    page.get_by_role("button", name="Done").click()
    expect(page.locator("body")).to_have_attribute("data-phase", re.compile("answering|judging|unjudged"))


def side(page: Page, label: str) -> Locator:
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=f"Answer {label}", exact=True))


def vote_button(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name="Which answer is better?").get_by_role("button", name=name)


def votable(page: Page) -> None:
    """Wait for both answers, and listen to no more of them than one must. Set them to be ENDLESS before."""
    phase(page, "judging")
    for label in "AB":
        button = side(page, label).get_by_role("button")
        if label == "B":
            button.click()
        expect(button).to_have_accessible_name(f"Stop answer {label}")
        button.click()
        expect(button).to_have_accessible_name(f"Play answer {label}")
    expect(vote_button(page, "Tie")).to_be_enabled()


ENDLESS = """
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
  this.loop = true;
  return start.apply(this, given);
};
null;
"""
"""What is played goes on until it is stopped."""


def voice_of(conversation: Conversation) -> Samples:
    """What a side was sent, without the silence after it."""
    sent = b"".join(base64.b64decode(event["audio"]) for event in conversation.heard)
    samples = np.frombuffer(sent, "<i2")
    return samples[: np.flatnonzero(samples)[-1] + 1].astype(np.float32)
