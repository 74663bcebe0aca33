"""Choosing the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.embedded.llama import Logits


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How tokens are chosen.

    At `temperature` 0 the likeliest is taken, and equal prompts give equal replies; else one of the `top_k` likeliest,
    by `seed`. What the reply already has is made less likely by `repetition_penalty` (arXiv:1909.05858, section 4.1),
    and no run of `no_repeat` tokens that the conversation has comes again: a small model repeats its own replies.
    """

    temperature: float = 0.0
    top_k: int = 20
    repetition_penalty: float = 1.1
    no_repeat: int = 5
    seed: int = 0


class Sampler:
    """Chooses the tokens of one reply to a conversation, `context`."""

    def __init__(self, options: SamplingOptions, context: Sequence[int]) -> None:
        self._options = options
        self._written: list[int] = []
        self._all = list(context)
        self._random = np.random.default_rng(options.seed)

    def choose(self, logits: Logits) -> int:
        """The next token, from logits of shape (vocabulary,)."""
        scores = logits.astype(np.float64)
        seen = np.unique(self._written).astype(np.intp)
        penalty = self._options.repetition_penalty
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        scores[self._repeats()] = -np.inf
        token = int(np.argmax(scores)) if self._options.temperature == 0 else self._draw(scores)
        self._written.append(token)
        self._all.append(token)
        return token

    def _draw(self, scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
        likeliest = np.argsort(scores)[-self._options.top_k :]
        weights = np.exp((scores[likeliest] - scores[likeliest].max()) / self._options.temperature)
        return int(self._random.choice(likeliest, p=weights / weights.sum()))

    def _repeats(self) -> list[int]:
        """The tokens that would complete a run of `no_repeat` tokens that has been there before."""
        length = self._options.no_repeat - 1
        if length <= 0 or len(self._written) < length:
            return []
        tail = self._all[-length:]
        return [
            self._all[start + length]
            for start in range(len(self._all) - length)
            if self._all[start : start + length] == tail
        ]
