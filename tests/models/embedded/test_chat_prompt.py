from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from models.embedded.chat_prompt import build_prompt
from streaming.engine import ChatMessage


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def show(tokens: Sequence[str]) -> str:
    return "".join(tokens).replace("\u0120", " ").replace("\u010a", "\n")


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", text=text)


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", text=text)


def test_the_layout_is_chatml(letters: Tokenizer) -> None:
    prompt = build_prompt(letters, "Be kind.", [user("Hi"), assistant("Hello"), user("Bye")], budget=1000)
    assert show(prompt.system) == "<|im_start|>system\nBe kind.<|im_end|>\n"
    assert show(prompt.conversation) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_oldest_messages_are_left_out_whole_and_it_begins_with_the_user(letters: Tokenizer) -> None:
    messages = [user("first"), assistant("one"), user("second"), assistant("two"), user("third")]
    for budget in range(200):
        shown = show(build_prompt(letters, "", messages, budget=budget).conversation)
        assert shown.startswith("<|im_start|>user\n")
        assert "third<|im_end|>\n" in shown or budget < 16
        assert ("two" in shown) == ("second" in shown)
        assert ("one" in shown) == ("first" in shown)
    assert "first" in shown


def test_a_last_message_that_is_too_long_keeps_its_end(letters: Tokenizer) -> None:
    prompt = build_prompt(letters, "", [user("x" * 500 + " the question")], budget=40)
    shown = show(prompt.conversation)
    assert shown.startswith("<|im_start|>user\n")
    assert " the question<|im_end|>\n<|im_start|>assistant\n" in shown
    assert len(prompt.conversation) <= 40 + len("assistant\n") + 1


def test_a_result_of_a_function_is_shown_as_the_users_words(letters: Tokenizer) -> None:
    messages = [user("Weather?"), ChatMessage(role="tool", text="rain", tool_call_id="c")]
    assert "<|im_start|>user\nrain<|im_end|>" in show(build_prompt(letters, "", messages, budget=999).conversation)


def test_no_messages_at_all(letters: Tokenizer) -> None:
    assert show(build_prompt(letters, "Greet.", [], budget=99).conversation) == "<|im_start|>assistant\n"
