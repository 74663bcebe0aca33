"""A conversation as tokens: the ChatML layout of SmolLM2, trimmed to a budget.

Layout: `<|im_start|>{role}\\n{text}<|im_end|>\\n` for each message, then `<|im_start|>assistant\\n`
(`tokenizer.chat_template` in the model's GGUF file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streaming.engine import ChatMessage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens of the system message, and of all that follows it; `skipped` messages had to be left out of that."""

    system: list[str]
    conversation: list[str]
    skipped: int = 0


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`. What looks like a control token in a text is read as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


MOST_INSTRUCTIONS = 128
"""Tokens of instructions that are read; a small model makes nothing of longer ones."""


def build_prompt(tokenizer: Tokenizer, instructions: str, messages: Sequence[ChatMessage], *, budget: int) -> Prompt:
    """The newest messages that fit in `budget` tokens, whole, and always the last.

    A last message that is longer than the budget by itself keeps its end; instructions that are too long, their start.
    """
    encode = _Encoder(tokenizer)
    turns: list[list[str]] = []
    left = budget
    for message in reversed(messages):
        turn = encode.message(message.role if message.role != "tool" else "user", message.text or "")
        if turns and len(turn) > left:
            break
        turns.append(turn if turns else encode.fit(turn, left))
        left -= len(turns[-1])
    while len(turns) > 1 and _is_answer(messages[-len(turns)]):
        turns.pop()
    conversation = [token for turn in reversed(turns) for token in turn]
    system = encode.message("system", instructions)
    if len(system) > MOST_INSTRUCTIONS:
        system = [*system[: MOST_INSTRUCTIONS - 2], END, *encode.text("\n")]
    opening = [START, *encode.text("assistant\n")]
    return Prompt(system, [*conversation, *opening], skipped=len(messages) - len(turns))


def _is_answer(message: ChatMessage) -> bool:
    return message.role in ("assistant", "tool")


class _Encoder:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def text(self, text: str) -> list[str]:
        return list(self._tokenizer.encode(text).tokens)

    def message(self, role: str, text: str) -> list[str]:
        return [START, *self.text(f"{role}\n{text}"), END, *self.text("\n")]

    def fit(self, turn: list[str], budget: int) -> list[str]:
        """Leave out the middle, so that the role at the head and the end of what was said are kept."""
        head = len(self.text("user\n")) + 1
        return turn if len(turn) <= budget else turn[:head] + turn[-max(budget - head, 1) :]
