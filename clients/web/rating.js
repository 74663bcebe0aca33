/** What the user thought of the newest answer: stars at first, and for those who gave some, tags and a comment. */

import { Refusal, postJson, problemOf } from "./api.js";
import { make, svg } from "./dom.js";

const STAR = "M12 3.2 14.7 9l6.3.7-4.7 4.2 1.3 6.2L12 17l-5.6 3.1 1.3-6.2L3 9.7 9.3 9Z";
const WORDS = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const TAGS = Object.freeze({
  fast: "Fast",
  slow: "Slow",
  helpful: "Helpful",
  wrong: "Wrong",
  misheard: "Misheard me",
  interrupted_me: "Interrupted me",
  did_not_stop: "Did not stop",
  pleasant_voice: "Pleasant voice",
  unpleasant_voice: "Unpleasant voice",
  audio_glitch: "Audio glitch",
});
const MAX_COMMENT = 1000;
const KEPT = "Thank you. Kept without who you are or what was said.";
/** @type {Record<number, string>} */
const REFUSALS = {
  404: "This answer can no longer be rated.",
  409: "This answer has been rated already.",
};

export class Rating {
  #form;
  /** The answer that is being rated, and a newer one that comes after it. */
  #answer = "";
  #next = "";
  #prompt = make("legend", {}, "How was the answer?");
  #stars = make("fieldset", { class: "stars" }, this.#prompt, ...WORDS.map(star));
  #tags = make(
    "div",
    { class: "tags", role: "group", "aria-label": "What was it like?" },
    ...Object.entries(TAGS).map(tag),
  );
  #comment = make("textarea", {
    rows: 2,
    maxlength: MAX_COMMENT,
    placeholder: "Anything else? (optional)",
    "aria-label": "Comment",
  });
  #send = make("button", { class: "pill small strong", type: "submit" }, "Send rating");
  #cancel = make("button", { class: "pill small", type: "button" }, "Cancel");
  #more = make(
    "div",
    { class: "rating-more", hidden: true },
    this.#tags,
    this.#comment,
    make("div", { class: "rating-ends" }, this.#send, this.#cancel),
  );
  #outcome = make("p", { class: "rating-outcome", role: "status", tabindex: -1 });
  #sending = false;

  /** @param {HTMLFormElement} form empty */
  constructor(form) {
    this.#form = form;
    form.append(this.#stars, this.#more, this.#outcome);
    this.#stars.addEventListener("change", () => this.#open());
    this.#cancel.addEventListener("click", () => {
      this.#offer(this.#next || this.#answer);
      this.#stars.querySelector("input").focus();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Ask about this answer, or after the one that is being rated. @param {string} responseId */
  offer(responseId) {
    if (this.#more.hidden) {
      this.#offer(responseId);
    } else {
      this.#next = responseId;
      this.#prompt.textContent = "How was the earlier answer?";
    }
  }

  /** Ask about nothing. */
  reset() {
    this.#form.hidden = true;
    this.#more.hidden = true;
    this.#answer = this.#next = "";
  }

  /** @param {string} responseId */
  #offer(responseId) {
    this.#answer = responseId;
    this.#next = "";
    this.#form.reset();
    this.#form.hidden = false;
    this.#stars.hidden = false;
    this.#more.hidden = true;
    this.#outcome.textContent = "";
    this.#prompt.textContent = "How was the answer?";
  }

  #open() {
    this.#more.hidden = false;
    this.#outcome.textContent = "";
  }

  get #given() {
    const checked = (within) => [...within.querySelectorAll("input:checked")].map(({ value }) => value);
    const comment = this.#comment.value.trim();
    return {
      response_id: this.#answer,
      rating: Number(checked(this.#stars)[0]),
      tags: checked(this.#tags),
      ...(comment && { comment }),
    };
  }

  /** Nothing is disabled meanwhile, for that would take the focus. */
  async #submit() {
    if (this.#sending) {
      return;
    }
    const given = this.#given;
    this.#sending = true;
    try {
      await postJson("/v1/feedback", given);
      this.#close(given.response_id, KEPT);
    } catch (error) {
      const final = error instanceof Refusal && REFUSALS[error.status];
      if (final) {
        this.#close(given.response_id, final);
      } else {
        this.#outcome.textContent = `It could not be sent. ${problemOf(error).message}.`;
      }
    }
    this.#sending = false;
  }

  /** @param {string} responseId that this is about @param {string} outcome */
  #close(responseId, outcome) {
    if (responseId !== this.#answer) {
      return;
    }
    const focused = this.#more.contains(document.activeElement);
    if (this.#next) {
      this.#offer(this.#next);
    } else {
      this.#stars.hidden = this.#more.hidden = true;
    }
    this.#outcome.textContent = outcome;
    if (focused) {
      this.#outcome.focus();
    }
  }
}

/** @param {string} word @param {number} index */
function star(word, index) {
  const input = make("input", { type: "radio", name: "rating", value: index + 1, required: true });
  const picture = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: STAR }));
  return make(
    "label",
    { title: word },
    input,
    picture,
    make("span", { class: "visually-hidden" }, `${index + 1} of 5: ${word}`),
  );
}

/** @param {[string, string]} tag */
function tag([id, words]) {
  return make("label", { class: "tag" }, make("input", { type: "checkbox", value: id }), words);
}
