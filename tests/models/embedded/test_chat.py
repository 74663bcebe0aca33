from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

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
    model = SmallChatModel(lambda: prepare_chat(models_dir), scheduler, replicas=2)
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
    events = await answer(chat, ask("What is the capital of France?"))
    assert isinstance(events[0], ChatBegun)
    assert "Paris" in text_of(events)
    assert "<|" not in text_of(events)
    end = events[-1]
    assert isinstance(end, ChatEnded)
    assert end.reason == "completed"
    assert 0 < end.output_tokens < ChatOptions().max_tokens
    assert 0 < end.cached_tokens < end.input_tokens


async def test_equal_questions_get_equal_answers(chat: SmallChatModel) -> None:
    first, again = [text_of(await answer(chat, ask("Tell me a fun fact."))) for _ in range(2)]
    assert first == again


async def test_an_answer_is_cut_at_the_bound(chat: SmallChatModel) -> None:
    events = await answer(chat, ask("Tell me a long story.", max_tokens=5))
    end = events[-1]
    assert isinstance(end, ChatEnded)
    assert (end.reason, end.output_tokens) == ("max_tokens", 5)


async def test_a_clients_own_instructions_are_followed_and_not_kept(chat: SmallChatModel) -> None:
    events = await answer(chat, ask("What is the capital of France?", instructions="Answer in one word."))
    end = events[-1]
    assert isinstance(end, ChatEnded)
    assert end.cached_tokens == 0
    assert "Paris" in text_of(events)


async def test_closing_the_stream_stops_the_model(chat: SmallChatModel, scheduler: Scheduler) -> None:
    async with aclosing(chat.stream(ask("Tell me about the moon."), needed_at=lambda: 0)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    # Both replicas are free again.
    assert text_of(await answer(chat, ask("Who are you?")))
    assert text_of(await answer(chat, ask("How are you?")))
    assert not scheduler._gate._waiting
