"""The real anthropic package against the real mitmdump and the stand-in model."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, DefaultHttpxClient

from tests.e2e.support.processes import MODEL, TOKEN, Proxy
from tests.e2e.support.recording_transport import RecordingTransport, Wire
from tests.e2e.support.signed_exchange import check_signatures

TEXT = "héllo 🙂 wörld"
ASKED: Any = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": TEXT}]}


def sending(token: str, header: str) -> dict[str, Any]:
    """Arguments that have the token sent in this header: releases before 2 send an `X-Api-Key`, as other clients do."""
    return {"api_key": token} if header == "Authorization" else {"default_headers": {"X-Api-Key": token}}


@pytest.fixture(params=["Authorization", "X-Api-Key"])
def client(proxy: Proxy, wire: Wire, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    http_client = DefaultHttpxClient(transport=RecordingTransport(wire))
    token = sending(TOKEN, request.param)
    with Anthropic(base_url=proxy.url, http_client=http_client, max_retries=0, **token) as made:
        yield made


def test_messages_response_is_parsed_and_signed(proxy: Proxy, client: Anthropic, wire: Wire) -> None:
    answer = client.messages.create(**ASKED)
    assert answer.content[0].type == "text"
    assert answer.content[0].text == TEXT
    assert answer.stop_reason == "end_turn"
    check_signatures(proxy, answer.id, wire)


def test_messages_stream_is_parsed_and_signed(proxy: Proxy, client: Anthropic, wire: Wire) -> None:
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
        answer = stream.get_final_message()
    assert answer.usage.output_tokens == 3
    check_signatures(proxy, answer.id, wire)


def test_messages_stream_ended_by_max_tokens_is_signed(proxy: Proxy, client: Anthropic, wire: Wire) -> None:
    events = list(client.messages.create(**ASKED | {"max_tokens": 1}, stream=True))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    check_signatures(proxy, events[0].message.id, wire)


def test_count_tokens_returns_the_input_tokens(client: Anthropic) -> None:
    asked = {name: ASKED[name] for name in ("model", "messages")}
    assert client.messages.count_tokens(**asked).input_tokens == 3


def test_models_are_listed(client: Anthropic) -> None:
    assert [model.id for model in client.models.list().data] == [MODEL]


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
def test_wrong_token_raises_the_sdks_authentication_error(proxy: Proxy, header: str) -> None:
    with Anthropic(base_url=proxy.url, max_retries=0, **sending("wrong", header)) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            client.messages.create(**ASKED)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == "error"
    assert refused.value.body["error"]["type"] == "authentication_error"


def test_upstream_error_reaches_the_client_unchanged(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist") as refused:
        client.messages.create(**ASKED | {"model": "another"})
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == "error"
