"""The real openai package against the real mitmdump and the stand-in model."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI

from tests.e2e.support.processes import MODEL, TOKEN, Proxy
from tests.e2e.support.recording_transport import AsyncRecordingTransport, Wire
from tests.e2e.support.signed_exchange import check_signatures

TEXT = "héllo 🙂 wörld"
CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}]}
COMPLETION: Any = {"model": MODEL, "prompt": "once upon a time"}


def test_chat_response_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == TEXT
    check_signatures(proxy, answer.id, wire)


def test_chat_stream_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    chunks = list(openai_client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage is not None
    check_signatures(proxy, chunks[0].id, wire)


def test_completion_response_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.completions.create(**COMPLETION)
    assert answer.choices[0].text == "once upon a time"
    check_signatures(proxy, answer.id, wire)


def test_completion_stream_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    chunks = list(openai_client.completions.create(**COMPLETION, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "once upon a time"
    check_signatures(proxy, chunks[0].id, wire)


def test_async_clients_concurrent_chats_are_parsed_and_signed(proxy: Proxy) -> None:
    async def chat(number: int, stream: bool) -> None:
        wire = Wire()
        http_client = DefaultAsyncHttpxClient(transport=AsyncRecordingTransport(wire))
        url = f"{proxy.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key=TOKEN, http_client=http_client, max_retries=0) as client:
            text = f"{TEXT} {number}"
            message: Any = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
            if stream:
                parts = []
                async for chunk in await client.chat.completions.create(**message, stream=True):
                    parts.append(chunk.choices[0].delta.content or "")
                    chat_id = chunk.id
                assert "".join(parts) == text
            else:
                answer = await client.chat.completions.create(**message)
                assert answer.choices[0].message.content == text
                chat_id = answer.id
        await asyncio.to_thread(check_signatures, proxy, chat_id, wire)

    async def many() -> None:
        await asyncio.gather(*(chat(number, stream=number % 2 == 0) for number in range(10)))

    asyncio.run(many())


def test_empty_tool_calls_are_removed_and_the_clients_bytes_are_signed(
    proxy: Proxy, openai_client: OpenAI, wire: Wire
) -> None:
    """The stand-in refuses them, as vLLM does; the hash is of what the client sent all the same."""
    history: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "tool_calls": []},
        {"role": "user", "content": "again"},
    ]
    answer = openai_client.chat.completions.create(model=MODEL, messages=history)
    assert b"tool_calls" in wire.request
    check_signatures(proxy, answer.id, wire)


def test_models_are_listed(openai_client: OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == [MODEL]


def test_errors_raise_the_openai_packages_exceptions(proxy: Proxy, openai_client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unauthorized:
        openai_client.with_options(api_key="wrong").chat.completions.create(**CHAT)
    assert isinstance(unauthorized.value.body, dict)
    assert unauthorized.value.body["type"] == "unauthorized"
    with pytest.raises(openai.NotFoundError, match="does not exist"):  # vLLM's own words
        openai_client.chat.completions.create(**CHAT | {"model": "another"})


def test_second_configured_token_is_accepted(proxy: Proxy, openai_client: OpenAI) -> None:
    assert openai_client.with_options(api_key="other-token").chat.completions.create(**CHAT).id
