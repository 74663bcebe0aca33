from __future__ import annotations

from dataclasses import replace

import pytest

from server.blindfold import Blindfold, blindfolded
from streaming.client_events import CreateResponse
from streaming.observations import CloseSession
from streaming.server_events import (
    ErrorDetail,
    ErrorEvent,
    InputTokenDetails,
    Notice,
    OutputTokenDetails,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    StatusDetails,
    TranscriptionFailed,
    Usage,
)
from tests.server.fakes import FakeConnection, audio_delta

TOLD = ErrorDetail(type="server_error", code="alpha_down", message="alpha at ws://gpu-3 is down", event_id="event_7")


def seen(event: ServerEvent) -> ServerEvent:
    connection = FakeConnection()
    Blindfold(connection).send(event)
    (masked,) = connection.heard
    return masked


def response(**fields: object) -> Response:
    return replace(Response(id="resp_1", status="completed"), **fields)  # type: ignore[arg-type]


def usage() -> Usage:
    return Usage(
        input_tokens=7,
        output_tokens=8,
        total_tokens=15,
        input_token_details=InputTokenDetails(text_tokens=7, audio_tokens=0, cached_tokens=0),
        output_token_details=OutputTokenDetails(text_tokens=8, audio_tokens=0),
    )


@pytest.mark.parametrize("kind", [ResponseCreated, ResponseDone])
def test_latency_parts_and_tokens_are_not_told(kind: type[ResponseCreated | ResponseDone]) -> None:
    metadata = {"muse.latency": '{"encode_ms": 3}', "muse.model": "alpha", "mine": "yes"}
    masked = seen(kind(response=response(metadata=metadata, usage=usage())))
    assert isinstance(masked, kind)
    assert masked.response == response(metadata={"mine": "yes"})


def test_metadata_that_was_only_ours_is_none() -> None:
    masked = seen(ResponseDone(response=response(metadata={"muse.latency": "{}"})))
    assert isinstance(masked, ResponseDone)
    assert masked.response.metadata is None


@pytest.mark.parametrize(
    "event",
    [
        ErrorEvent(error=TOLD),
        TranscriptionFailed(item_id="item_1", content_index=0, error=TOLD),
        ResponseDone(response=response(status="failed", status_details=StatusDetails(type="failed", error=TOLD))),
    ],
)
def test_what_an_engine_says_when_it_fails_is_not_quoted(event: ServerEvent) -> None:
    masked = repr(seen(event))
    assert "alpha" not in masked
    assert "gpu-3" not in masked
    assert "The model has failed." in masked
    assert "event_7" in masked


def test_clients_mistakes_are_explained() -> None:
    mistake = ErrorEvent(error=ErrorDetail(type="invalid_request_error", code="invalid_value", message="the voice ..."))
    assert seen(mistake) == mistake


@pytest.mark.parametrize("event", [audio_delta(b"\0\0"), Notice(code="session_expiring", message="60 s")])
def test_all_else_passes(event: ServerEvent) -> None:
    assert seen(event) is event


async def test_what_the_client_says_passes() -> None:
    connection = FakeConnection()
    connection.say(event := CreateResponse())
    assert await Blindfold(connection).receive() is event


def test_a_lost_engine_is_not_quoted_at_the_close() -> None:
    quoted = CloseSession(code=1011, reason="alpha at ws://gpu-3 is gone")
    assert blindfolded(quoted) == CloseSession(code=1011, reason="The model has failed.")
    for close in (None, CloseSession(code=1012, reason="The server is restarting.")):
        assert blindfolded(close) is close
