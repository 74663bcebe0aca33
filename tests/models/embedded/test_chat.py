from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Literal

import pytest

from models.embedded.chat import ChatOptions, SmallChatModel
from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, TextDelta
from models.embedded.prepare import prepare_chat
from models.embedded.scheduler import Scheduler
from models.instructions import DEFAULT_INSTRUCTIONS
from streaming.engine import ChatMessage

pytestmark = pytest.mark.models


@pytest.fixture
async def chat(models_dir: Path, scheduler: Scheduler) -> AsyncIterator[SmallChatModel]:
    model = SmallChatModel(lambda: prepare_chat(models_dir), scheduler, kept=2)
    await model.start()
    yield model
    await scheduler.close()
    await model.close()


def ask(text: str, *, instructions: str = DEFAULT_INSTRUCTIONS, max_tokens: int | None = None) -> ChatRequest:
    return ChatRequest(
        session_id="s",
        instructions=instructions,
        messages=(ChatMessage(role="user", text=text),),
        max_tokens=max_tokens,
    )


async def answer(chat: SmallChatModel, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in chat.stream(request, needed_at=lambda: 0)]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_question_is_answered_and_the_answer_ends_by_itself(chat: SmallChatModel) -> None:
    events = await answer(chat, ask("How are you today?"))
    assert isinstance(events[0], ChatBegun)
    assert len(text_of(events).split()) > 2
    assert "<|" not in text_of(events)
    end = events[-1]
    assert isinstance(end, ChatEnded)
    assert end.reason == "completed"
    assert 0 < end.output_tokens < ChatOptions().max_tokens
    assert 0 < end.cached_tokens < end.input_tokens


async def test_equal_questions_get_equal_answers(chat: SmallChatModel) -> None:
    first, again = [
        text_of(await answer(chat, talk("Tell me a fun fact.", session_id=session_id))) for session_id in ("a", "b")
    ]
    assert first == again


async def test_an_answer_is_cut_at_the_bound(chat: SmallChatModel) -> None:
    events = await answer(chat, ask("Tell me a long story.", max_tokens=5))
    end = events[-1]
    assert isinstance(end, ChatEnded)
    assert (end.reason, end.output_tokens) == ("max_tokens", 5)


async def test_a_clients_own_instructions_are_followed(chat: SmallChatModel) -> None:
    told = text_of(await answer(chat, ask("What is your name?", instructions="You are a pirate called Redbeard.")))
    assert told != text_of(await answer(chat, ask("What is your name?")))


def talk(*turns: str, session_id: str = "s") -> ChatRequest:
    """A conversation whose sides take turns; the user has the last word."""
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    messages = tuple(
        ChatMessage(role=roles[index % 2], text=text, item_id=f"i{index}") for index, text in enumerate(turns)
    )
    return ChatRequest(session_id=session_id, instructions=DEFAULT_INSTRUCTIONS, messages=messages)


def ended(events: list[ChatEvent]) -> ChatEnded:
    assert isinstance(events[-1], ChatEnded)
    return events[-1]


async def test_a_turn_costs_only_what_was_not_read_before(chat: SmallChatModel) -> None:
    first = await answer(chat, talk("Tell me a fun fact about cats."))
    second = ended(await answer(chat, talk("Tell me a fun fact about cats.", text_of(first), "And about dogs?")))
    assert second.input_tokens - second.cached_tokens < 25
    assert second.cached_tokens > ended(first).input_tokens


async def test_an_interrupted_reply_is_forgotten_past_what_was_heard(chat: SmallChatModel) -> None:
    whole = ended(await answer(chat, talk("Tell me a story.")))
    cut = ended(await answer(chat, talk("Tell me a story.", "Once", "What is the capital of France?")))
    assert whole.input_tokens <= cut.cached_tokens <= whole.input_tokens + 1


async def test_a_long_conversation_stays_cheap(chat: SmallChatModel) -> None:
    turns: list[str] = []
    unread = []
    for index in range(14):
        turns.append(f"Here is number {index}: what do you think of it, and of all the numbers before it?")
        events = await answer(chat, talk(*turns))
        turns.append(text_of(events))
        unread.append(ended(events).input_tokens - ended(events).cached_tokens)
    assert max(unread) <= ChatOptions().history
    assert sorted(unread)[len(unread) // 2] < 60
    assert sum(count > 100 for count in unread) <= 3


async def test_only_so_many_conversations_are_kept(chat: SmallChatModel) -> None:
    for session_id in ("a", "b", "c"):
        await answer(chat, talk("Who are you?", session_id=session_id))
    again = [ended(await answer(chat, talk("Who are you?", session_id=s))).cached_tokens for s in ("c", "a")]
    assert again[0] > again[1] > 0


async def test_instructions_that_are_too_long_are_cut(chat: SmallChatModel) -> None:
    assert text_of(await answer(chat, ask("Hello!", instructions="Be kind. " * 2000)))


async def test_closing_the_stream_stops_the_model(chat: SmallChatModel, scheduler: Scheduler) -> None:
    async with aclosing(chat.stream(ask("Tell me about the moon."), needed_at=lambda: 0)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert text_of(await answer(chat, ask("Who are you?")))
    assert text_of(await answer(chat, ask("How are you?")))
    assert not scheduler._gate._waiting
