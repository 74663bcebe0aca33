"""Speech to text: Whisper (arXiv:2212.04356) on CTranslate2, on one CPU thread for each call.

Whisper was trained on windows of 30 s, and its encoder's cost grows with the window. A turn is short, so only a
window a little longer than the clip is encoded. Cut so, it sometimes repeats itself; an answer that does is made
again with a longer window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ctranslate2
import numpy as np
import tokenizers

from models.features import FRAMES_PER_SECOND, HOP, SAMPLE_RATE, log_mel
from models.weights import Weights
from streaming.engine import Samples
from streaming.errors import EngineError

_FILES = ("config.json", "model.bin", "vocabulary.txt", "tokenizer.json")

_LONGEST = 28.0  # s of audio heard at once; Whisper's positions end at 30 s, and it wants silence after the words
_SHORTEST_WINDOW = 10.0  # s; below this the share of wrong words grows quickly
_WINDOW_MARGIN = 2.0  # s of silence after the clip
_FULL_WINDOW = 30.0  # s

_PROMPT_TOKENS = 64
_TOKENS_PER_SECOND = 10.0  # fast speech is about 6
_SPARE_TOKENS = 12
_MAX_REPEATS = 4


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was heard in one window."""

    tokens: Sequence[int]
    score: float  # mean log-probability of a token
    no_speech: float  # probability that there was no speech at all
    cut_off: bool  # there were more tokens than anybody says in the time


class SpeechToText:
    """A Whisper model, shared by the threads that call it: each of `workers` calls runs at once, on one thread.

    `model` names an entry of the weights' manifest; `language` is the one assumed where a call gives none. Raises
    EngineError where the files are missing or altered, or the model has no such language.
    """

    def __init__(
        self, weights: Weights, *, model: str = "whisper-tiny.en", workers: int = 1, language: str = "en"
    ) -> None:
        files = {name: weights.read(model, name) for name in _FILES}
        self._tokenizer = tokenizers.Tokenizer.from_buffer(files["tokenizer.json"])
        self._model = ctranslate2.models.Whisper(
            model, device="cpu", compute_type="int8", inter_threads=workers, intra_threads=1, files=files
        )
        self._language = language
        self._start_tokens(language)

    def warm_up(self) -> None:
        """Run the model once, so that the first caller does not wait for memory to be touched."""
        self.hear(np.zeros(SAMPLE_RATE, dtype=np.float32), self._start_tokens(None), window=_SHORTEST_WINDOW)

    def transcribe(
        self,
        audio: Samples,
        *,
        language: str | None = None,
        prompt: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> str:
        """The words in `audio` (mono at 16 kHz, of any length), stripped; empty where there are none.

        `language` is a BCP 47 tag; `prompt` is text that might have gone before, for names and spelling. Blocks for
        the time that the model takes, and calls `check` before each of its runs. Raises EngineError where the model
        has no such language.
        """
        start = self._start_tokens(language)
        audio = np.clip(np.nan_to_num(np.asarray(audio, dtype=np.float32)), -1.0, 1.0)
        texts: list[str] = []
        for piece in split_at_pauses(audio, longest=_LONGEST):
            said_before = " ".join(filter(None, (prompt, *texts)))
            texts.append(self._transcribe_piece(piece, self._prompt_tokens(said_before) + start, check))
        return " ".join(filter(None, texts))

    def _transcribe_piece(self, audio: Samples, prompt: list[int], check: Callable[[], None]) -> str:
        if audio.size < HOP:
            return ""
        window = max(_SHORTEST_WINDOW, audio.size / SAMPLE_RATE + _WINDOW_MARGIN)
        for seconds in (window, (window + _FULL_WINDOW) / 2, _FULL_WINDOW):
            check()
            heard = self.hear(audio, prompt, window=seconds)
            if _is_silence(heard):
                return ""
            if not heard.cut_off and not repeats(heard.tokens):
                break
        text: str = self._tokenizer.decode(list(heard.tokens), skip_special_tokens=True)
        return re.sub(r"\s+", " ", text).strip()

    def hear(self, audio: Samples, prompt: list[int], *, window: float) -> Hypothesis:
        """Decode greedily what a window of that many seconds, the audio and then silence, holds."""
        # The encoder halves the number of frames, so it must be even.
        frames = 2 * int(window * FRAMES_PER_SECOND / 2)
        features = ctranslate2.StorageView.from_array(log_mel(audio, frames)[np.newaxis])
        most = _SPARE_TOKENS + int(_TOKENS_PER_SECOND * audio.size / SAMPLE_RATE)
        result = self._model.generate(
            features,
            [prompt],
            beam_size=1,
            # CTranslate2 allows half of this for the answer, and all of it for prompt and answer together.
            max_length=min(448, max(2 * most, most + len(prompt))),
            suppress_blank=True,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = result.sequences_ids[0]
        return Hypothesis(tokens, result.scores[0], result.no_speech_prob, cut_off=len(tokens) >= most)

    def _start_tokens(self, language: str | None) -> list[int]:
        """The tokens that ask for a transcript without timestamps."""
        names: tuple[str, ...]
        wanted = _primary(language or self._language)
        if not self._model.is_multilingual:
            known = wanted == "en"
            names = ("<|startoftranscript|>", "<|notimestamps|>")
        else:
            known = self._tokenizer.token_to_id(f"<|{wanted}|>") is not None
            names = ("<|startoftranscript|>", f"<|{wanted}|>", "<|transcribe|>", "<|notimestamps|>")
        if not known:
            raise EngineError(f"speech to text knows no language {wanted!r}", code="language_unsupported")
        return [self._special(name) for name in names]

    def _prompt_tokens(self, text: str) -> list[int]:
        if not text.strip():
            return []
        tokens: list[int] = self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        return [self._special("<|startofprev|>"), *tokens[-_PROMPT_TOKENS:]]

    def _special(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise EngineError(f"the tokenizer has no token {name}", code="model_invalid")
        return token


def _primary(tag: str) -> str:
    """The primary language of a BCP 47 tag: "en" of "en-US"."""
    return re.split("[-_]", tag, maxsplit=1)[0].lower()


def _is_silence(heard: Hypothesis) -> bool:
    """Whether the words are made up.

    Whisper's doubt and the words' likelihood are needed together: on noise the first is .58 and more and the second
    under -.8, but clear speech that goes on to the window's end can be doubted as much.
    """
    if heard.no_speech > 0.55:
        return heard.score < -0.6 or heard.cut_off or repeats(heard.tokens)
    return heard.no_speech > 0.35 and heard.score < -1.2


def repeats(tokens: Sequence[int]) -> bool:
    """Whether some phrase of one to eight tokens comes more than a few times in a row."""
    for length in range(1, 9):
        run = 0
        for index in range(length, len(tokens)):
            run = run + 1 if tokens[index] == tokens[index - length] else 0
            if run >= length * _MAX_REPEATS:
                return True
    return False


def split_at_pauses(audio: Samples, *, longest: float) -> Iterator[Samples]:
    """Cut `audio` (16 kHz) into pieces of at most `longest` seconds, each at the quietest point of its last half."""
    most = int(longest * SAMPLE_RATE)
    while audio.size > most:
        cut = most // 2 + _quietest(audio[most // 2 : most])
        yield audio[:cut]
        audio = audio[cut:]
    yield audio


def _quietest(audio: Samples, window: int = SAMPLE_RATE // 5) -> int:
    """The middle of the window with the least energy, as an index into `audio`."""
    energy = np.cumsum(np.square(audio, dtype=np.float64))
    return int(np.argmin(energy[window:] - energy[:-window])) + window // 2 + 1
