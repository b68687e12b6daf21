"""The real openai package against the real mitmdump and the stand-in model."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests import verification
from tests.e2e.processes import MODEL, TOKEN, Proxy
from tests.e2e.raw_client import Asker
from tests.e2e.recording_transport import AsyncRecordingTransport, RecordingTransport, Wire

TEXT = "héllo 🙂 wörld"
CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}]}
COMPLETION: Any = {"model": MODEL, "prompt": "once upon a time"}


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(proxy: Proxy, wire: Wire) -> Iterator[OpenAI]:
    http_client = DefaultHttpxClient(transport=RecordingTransport(wire))
    with OpenAI(base_url=f"{proxy.url}/v1", api_key=TOKEN, http_client=http_client, max_retries=0) as made:
        yield made


def check_signatures(proxy: Proxy, chat_id: str, wire: Wire) -> None:
    """Both signatures, under the id and under the receipt, from both ports, hold for the bytes of the wire."""
    receipt = wire.headers["x-receipt-id"]
    answers = []
    for port in (proxy.port, proxy.side_port):
        with Asker(port) as asker:
            for stored_id in (chat_id, receipt):
                for algo in ("ecdsa", "ed25519"):
                    status, answer = asker.signature(stored_id, algo)
                    assert status == 200, answer
                    verification.check(answer, wire.request, wire.response)
                    answers.append((algo, tuple(answer.items())))
    assert len(answers) == 8
    assert len(set(answers)) == 2


def test_chat(proxy: Proxy, client: OpenAI, wire: Wire) -> None:
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == TEXT
    check_signatures(proxy, answer.id, wire)


def test_streamed_chat(proxy: Proxy, client: OpenAI, wire: Wire) -> None:
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage is not None
    check_signatures(proxy, chunks[0].id, wire)


def test_completion(proxy: Proxy, client: OpenAI, wire: Wire) -> None:
    answer = client.completions.create(**COMPLETION)
    assert answer.choices[0].text == "once upon a time"
    check_signatures(proxy, answer.id, wire)


def test_streamed_completion(proxy: Proxy, client: OpenAI, wire: Wire) -> None:
    chunks = list(client.completions.create(**COMPLETION, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "once upon a time"
    check_signatures(proxy, chunks[0].id, wire)


def test_async_clients_streaming_and_not(proxy: Proxy) -> None:
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


def test_empty_tool_calls_reach_the_model_no_more(proxy: Proxy, client: OpenAI, wire: Wire) -> None:
    """The stand-in refuses them, as vLLM does; the hash is of what the client sent all the same."""
    history: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "tool_calls": []},
        {"role": "user", "content": "again"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=history)
    assert b"tool_calls" in wire.request
    check_signatures(proxy, answer.id, wire)


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_errors_are_the_openai_packages_own(proxy: Proxy, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unauthorized:
        client.with_options(api_key="wrong").chat.completions.create(**CHAT)
    assert isinstance(unauthorized.value.body, dict)
    assert unauthorized.value.body["type"] == "unauthorized"
    with pytest.raises(openai.NotFoundError, match="does not exist"):  # vLLM's own words
        client.chat.completions.create(**CHAT | {"model": "another"})


def test_each_of_several_tokens_opens(proxy: Proxy, client: OpenAI) -> None:
    assert client.with_options(api_key="other-token").chat.completions.create(**CHAT).id
