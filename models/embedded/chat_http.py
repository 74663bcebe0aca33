"""A chat model behind a URL: the OpenAI chat completions API, streamed (vLLM, llama.cpp, Ollama and many more).

Reference: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, TextDelta, ToolCall
from models.embedded.scheduler import Deadline
from streaming.config import NamedTool
from streaming.engine import ChatMessage
from streaming.errors import EngineError

_LONGEST_EVENT = 1 << 20
_LONGEST_REPLY = 1 << 22
_MALFORMED = "the chat model's answer is malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpChatOptions:
    """Times in seconds. `silence` is the longest wait for the next piece of an answer, the first one included."""

    connect: float = 3.0
    silence: float = 15.0
    max_tokens: int = 256
    temperature: float = 0.5
    connections: int = 32


class HttpChatModel:
    """See `parts.ChatModel`. `url` is the API's base, such as `http://localhost:8001/v1`.

    Where `model` is empty, the first that the server lists is used. Proxies are not taken from the environment.
    """

    tools = True

    def __init__(self, url: str, *, model: str = "", api_key: str = "", options: HttpChatOptions | None = None) -> None:
        self._options = options or HttpChatOptions()
        self._model = model
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(self._options.silence, connect=self._options.connect),
            limits=httpx.Limits(max_connections=self._options.connections),
            trust_env=False,
        )

    async def start(self) -> None:
        """Ask the server for its models. Raises EngineError where it cannot be reached or has none."""
        if self._model:
            return
        try:
            response = await self._client.get("models")
            response.raise_for_status()
            self._model = str(response.json()["data"][0]["id"])
        except httpx.HTTPStatusError as error:
            raise _refusal(error.response.status_code) from error
        except httpx.HTTPError as error:
            raise _unreachable() from error
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError("the chat server lists no models; name one", code="chat_failed") from error

    async def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:  # noqa: ARG002 - a remote server has its own order
        """See `parts.ChatModel`."""
        answer = _Answer()
        try:
            async with self._client.stream("POST", "chat/completions", json=self._body(request)) as response:
                if response.status_code != httpx.codes.OK:
                    raise _refusal(response.status_code)
                yield ChatBegun()
                async with aclosing(_sse_data(response.aiter_bytes())) as events:
                    async for data in events:
                        if text := answer.take(data):
                            yield TextDelta(text)
        except httpx.TimeoutException as error:
            raise EngineError("the chat model took too long", code="chat_timeout") from error
        except httpx.HTTPError as error:
            raise _unreachable() from error
        for call in answer.calls():
            yield call
        yield answer.ended()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        system = [{"role": "system", "content": request.instructions}] if request.instructions else []
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [*system, *map(_message, request.messages)],
            "max_tokens": request.max_tokens or self._options.max_tokens,
            "temperature": self._options.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = [{"type": "function", "function": _function(asdict(tool))} for tool in request.tools]
            choice = request.tool_choice
            body["tool_choice"] = (
                {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedTool) else choice
            )
        return body


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": message.text or ""}
    if message.tool_call is not None:
        name, arguments = message.tool_call
        call = {
            "id": message.tool_call_id or "",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        return {"role": "assistant", "content": message.text, "tool_calls": [call]}
    return {"role": message.role, "content": message.text or ""}


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name != "type" and value is not None}


def _unreachable() -> EngineError:
    return EngineError("the chat model cannot be reached", code="chat_unreachable")


def _refusal(status: int) -> EngineError:
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return EngineError("the chat model is busy", code="chat_busy")
    return EngineError(f"the chat model refused the request (HTTP {status})", code="chat_failed")


async def _sse_data(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The `data:` lines of a server-sent event stream, up to `[DONE]`. Raises EngineError where one is too long."""
    pending, total = b"", 0
    async for chunk in chunks:
        total += len(chunk)
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) > _LONGEST_EVENT or total > _LONGEST_REPLY:
            raise EngineError("the chat model's answer is too long", code="chat_failed")
        for line in lines:
            field_name, _, value = line.partition(b":")
            data = value.strip().decode(errors="replace")
            if field_name != b"data":
                continue
            if data == "[DONE]":
                return
            yield data


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Answer:
    """What has come of one answer."""

    finish: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    pieces: dict[int, _Call] = field(default_factory=dict)

    def take(self, data: str) -> str:
        """The words in one event. Raises EngineError where it is an error or malformed."""
        try:
            event = json.loads(data)
            if event.get("error"):
                raise EngineError("the chat model failed", code="chat_failed")
            self.usage = event.get("usage") or self.usage
            choices = event.get("choices") or []
            if not choices:
                return ""
            self.finish = choices[0].get("finish_reason") or self.finish
            delta = choices[0].get("delta") or {}
            for piece in delta.get("tool_calls") or []:
                call = self.pieces.setdefault(int(piece.get("index", 0)), _Call())
                function = piece.get("function") or {}
                call.call_id = piece.get("id") or call.call_id
                call.name += function.get("name") or ""
                call.arguments += function.get("arguments") or ""
            return str(delta.get("content") or "")
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise EngineError(_MALFORMED, code="chat_failed") from error

    def calls(self) -> list[ToolCall]:
        """The functions that the model calls. Raises EngineError where the answer broke off."""
        if self.finish is None:
            raise EngineError("the chat model's answer broke off", code="chat_failed")
        return [
            ToolCall(call_id=call.call_id, name=call.name, arguments=call.arguments or "{}")
            for _, call in sorted(self.pieces.items())
        ]

    def ended(self) -> ChatEnded:
        """How the answer ended and what it cost, as the server counts."""
        details = self.usage.get("prompt_tokens_details") or {}
        try:
            return ChatEnded(
                reason="max_tokens" if self.finish == "length" else "completed",
                input_tokens=int(self.usage.get("prompt_tokens") or 0),
                output_tokens=int(self.usage.get("completion_tokens") or 0),
                cached_tokens=int(details.get("cached_tokens") or 0),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise EngineError(_MALFORMED, code="chat_failed") from error
