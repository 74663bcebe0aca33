import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest

from models.embedded.chat_http import HttpChatModel, HttpChatOptions
from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, TextDelta, ToolCall
from streaming.config import FunctionTool, NamedTool, ToolChoice
from streaming.engine import ChatMessage
from streaming.errors import EngineError


class ChatServer:
    """Answers every request with the given pieces of a body, and keeps what it was asked."""

    def __init__(self, *pieces: bytes, status: int = 200, pause: float = 0, hang: bool = False) -> None:
        self.pieces = pieces
        self.status = status
        self.pause = pause
        self.hang = hang
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.left = asyncio.Event()
        self._answering: set[asyncio.Task[None] | None] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.close()
            async with asyncio.timeout(60):
                await asyncio.gather(*filter(None, self._answering))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((head[0], headers, json.loads(body) if body else None))
        try:
            writer.write(f"HTTP/1.1 {self.status} x\r\nContent-Type: text/event-stream\r\n\r\n".encode())
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause)
            if self.hang:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def sse(**event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def delta(text: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    return sse(choices=[{"delta": {"content": text, **more}, "finish_reason": finish}])


USAGE = sse(
    choices=[],
    usage={"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
)
DONE = b"data: [DONE]\n\n"


def request(*, tools: tuple[FunctionTool, ...] = (), tool_choice: ToolChoice = "auto") -> ChatRequest:
    return ChatRequest(
        session_id="s",
        instructions="Be brief.",
        messages=(
            ChatMessage(role="user", text="Weather?"),
            ChatMessage(role="assistant", text=None, tool_call_id="c1", tool_call=("weather", "{}")),
            ChatMessage(role="tool", text="rain", tool_call_id="c1"),
        ),
        max_tokens=50,
        tools=tools,
        tool_choice=tool_choice,
    )


async def ask(server: ChatServer, asked: ChatRequest | None = None, **options: Any) -> list[ChatEvent]:
    async with server.serve() as url:
        model = HttpChatModel(url, model="m", api_key="secret", options=HttpChatOptions(**options))
        try:
            return [event async for event in model.stream(asked or request(), needed_at=lambda: 0)]
        finally:
            await model.close()


async def test_words_arrive_as_they_are_written_and_usage_at_the_end() -> None:
    server = ChatServer(delta("Hel"), delta("lo"), delta(finish="stop"), USAGE, DONE)
    assert await ask(server) == [
        ChatBegun(),
        TextDelta("Hel"),
        TextDelta("lo"),
        ChatEnded(reason="completed", input_tokens=9, output_tokens=2, cached_tokens=4),
    ]


async def test_the_request_carries_the_conversation_and_the_key() -> None:
    server = ChatServer(delta("Hi", finish="stop"), DONE)
    await ask(server)
    line, headers, body = server.requests[0]
    assert line.startswith("POST /v1/chat/completions ")
    assert headers["authorization"] == "Bearer secret"
    assert body["model"] == "m"
    assert body["max_tokens"] == 50
    assert body["stream"] is True
    assert "tools" not in body
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]


async def test_tools_are_passed_through_and_calls_put_together() -> None:
    first = {"index": 0, "id": "c9", "function": {"name": "weather", "arguments": '{"in":'}}
    second = {"index": 0, "function": {"arguments": '"Rome"}'}}
    server = ChatServer(delta(tool_calls=[first]), delta(tool_calls=[second]), delta(finish="tool_calls"), DONE)
    tool = FunctionTool(name="weather", parameters={"type": "object"})
    events = await ask(server, request(tools=(tool,), tool_choice=NamedTool(name="weather")))
    assert events[1] == ToolCall(call_id="c9", name="weather", arguments='{"in":"Rome"}')
    body = server.requests[0][2]
    assert body["tools"] == [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_events_may_be_cut_anywhere() -> None:
    whole = b": comment\r\n" + delta("h\u00e9", finish="length").replace(b"\n\n", b"\r\n\r\n") + DONE
    events = await ask(ChatServer(*(whole[at : at + 7] for at in range(0, len(whole), 7))))
    assert events[1:] == [TextDelta("h\u00e9"), ChatEnded(reason="max_tokens", input_tokens=0, output_tokens=0)]


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (lambda: ChatServer(b"secret text", status=500), "chat_failed"),
        (lambda: ChatServer(status=429), "chat_busy"),
        (lambda: ChatServer(b"data: {nonsense\n\n"), "chat_failed"),
        (lambda: ChatServer(b"data: [1]\n\n"), "chat_failed"),
        (lambda: ChatServer(sse(choices=["secret"])), "chat_failed"),
        (lambda: ChatServer(sse(error={"message": "secret"})), "chat_failed"),
        (lambda: ChatServer(delta("Half an ans")), "chat_failed"),
        (lambda: ChatServer(b"x" * (2 << 20)), "chat_failed"),
    ],
)
async def test_what_goes_wrong_is_an_engine_error_that_tells_no_secrets(server: Any, code: str) -> None:
    with pytest.raises(EngineError) as caught:
        await ask(server())
    assert caught.value.code == code
    assert "secret" not in caught.value.message


async def test_a_server_that_falls_silent() -> None:
    with pytest.raises(EngineError) as caught:
        await ask(ChatServer(delta("Half"), hang=True), silence=0.2)
    assert caught.value.code == "chat_timeout"


async def test_a_server_that_is_not_there() -> None:
    model = HttpChatModel("http://127.0.0.1:9/v1")
    with pytest.raises(EngineError, match="cannot be reached"):
        await model.start()
    await model.close()


async def test_the_first_listed_model_is_used_where_none_is_named() -> None:
    server = ChatServer(b'{"data": [{"id": "listed"}]}')
    async with server.serve() as url:
        model = HttpChatModel(url)
        await model.start()
        server.pieces = (delta("Hi", finish="stop"), DONE)
        assert len([event async for event in model.stream(request(), needed_at=lambda: 0)]) == 3
        await model.close()
    assert server.requests[1][2]["model"] == "listed"


async def test_closing_the_iterator_hangs_up() -> None:
    server = ChatServer(*[delta("word ")] * 5, hang=True)
    async with server.serve() as url:
        model = HttpChatModel(url, model="m")
        async with aclosing(model.stream(request(), needed_at=lambda: 0)) as events:
            await anext(events)
            await anext(events)
        async with asyncio.timeout(60):
            await server.left.wait()
        await model.close()
