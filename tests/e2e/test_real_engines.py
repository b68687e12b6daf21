"""Answers of real inference servers are signed, whatever their streams end with; only run where asked for."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import DefaultHttpxClient, OpenAI

from tests.e2e.support.engines import VARIABLE, Engine, environments, running_engine
from tests.e2e.support.processes import PROGRAMS, TOKEN, Proxy, running_proxy
from tests.e2e.support.recording_transport import RecordingTransport, Wire
from tests.e2e.support.signed_exchange import check_signatures
from tests.support.limits import limit

DONE = b"data: [DONE]"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=environments() or [None], ids=str)  # type: ignore[list-item]
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param is None:
        pytest.skip(f"set {VARIABLE}=/path/to/environment; scripts/test-engine makes one")
    environment: Path = request.param
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with running_engine(environment, tmp_path_factory.mktemp("engine"), port) as running:
        yield running


@pytest.fixture(scope="module", params=PROGRAMS)
def before_engine(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with running_proxy(engine.url, program=request.param, MODEL_NAME="tiny") as proxy:
        yield proxy


@pytest.fixture
def client(before_engine: Proxy, wire: Wire) -> Iterator[OpenAI]:
    http_client = DefaultHttpxClient(transport=RecordingTransport(wire), timeout=limit(60))
    url = f"{before_engine.url}/v1"
    with OpenAI(base_url=url, api_key=TOKEN, http_client=http_client, max_retries=0) as made:
        yield made


def test_a_chat_is_signed(before_engine: Proxy, engine: Engine, client: OpenAI, wire: Wire) -> None:
    answer = client.chat.completions.create(
        model=engine.model, max_tokens=5, messages=[{"role": "user", "content": "Say hello"}]
    )
    assert answer.choices[0].finish_reason == "length"
    check_signatures(before_engine, answer.id, wire)


def test_streamed_chat_with_or_without_done_is_signed(
    before_engine: Proxy, engine: Engine, client: OpenAI, wire: Wire
) -> None:
    stream = client.chat.completions.create(
        model=engine.model, max_tokens=5, stream=True, messages=[{"role": "user", "content": "Say hello"}]
    )
    chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (DONE in wire.response) == (engine.name == "llama-cpp"), "or this engine has changed its ways"
    check_signatures(before_engine, chunks[0].id, wire)


def test_a_streamed_completion_is_signed(before_engine: Proxy, engine: Engine, client: OpenAI, wire: Wire) -> None:
    chunks = list(client.completions.create(model=engine.model, max_tokens=5, stream=True, prompt="Say hello"))
    assert chunks[-1].choices[0].finish_reason == "length"
    check_signatures(before_engine, chunks[0].id, wire)


def test_a_streamed_response_is_signed(before_engine: Proxy, engine: Engine, client: OpenAI, wire: Wire) -> None:
    if engine.name == "llama-cpp":
        pytest.skip("it has no /v1/responses")
    events = list(client.responses.create(model=engine.model, max_output_tokens=5, stream=True, input="Say hello"))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    check_signatures(before_engine, events[0].response.id, wire)


def test_engine_error_is_forwarded_unsigned(before_engine: Proxy, engine: Engine, client: OpenAI, wire: Wire) -> None:
    with pytest.raises(Exception, match=r"4\d\d|5\d\d"):
        client.chat.completions.create(model=engine.model, messages="not a list")  # type: ignore[arg-type]
    assert "x-receipt-id" not in wire.headers
