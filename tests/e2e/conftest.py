import socket
from collections.abc import Iterator

import pytest
from openai import DefaultHttpxClient, OpenAI
from playwright.sync_api import Browser

from tests.e2e.support.chromium import running_chromium
from tests.e2e.support.processes import (
    PROGRAMS,
    TOKEN,
    Proxy,
    Simulator,
    running_fake_vllm,
    running_proxy,
    running_simulator,
)
from tests.e2e.support.recording_transport import RecordingTransport, Wire


@pytest.fixture(scope="session")
def fake_vllm() -> Iterator[str]:
    """Address of a stand-in model that answers at once."""
    with running_fake_vllm() as url:
        yield url


@pytest.fixture(scope="session", params=PROGRAMS)
def proxy(fake_vllm: str, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy before the stand-in model, shared by all tests that do it no harm; once by each program."""
    with running_proxy(fake_vllm, program=request.param) as running:
        yield running


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A dstack simulator, shared by all tests that do it no harm."""
    with running_simulator(tmp_path_factory.mktemp("dstack"), "--seed", "5eed" * 16) as running:
        yield running


@pytest.fixture
def wire() -> Wire:
    """What the clients below put on the wire, and got."""
    return Wire()


@pytest.fixture
def openai_client(proxy: Proxy, wire: Wire) -> Iterator[OpenAI]:
    """The openai package, in front of the shared proxy."""
    http_client = DefaultHttpxClient(transport=RecordingTransport(wire))
    with OpenAI(base_url=f"{proxy.url}/v1", api_key=TOKEN, http_client=http_client, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium, for the tests of one module.

    Not for the session: for as long as Playwright runs, no test in this thread can run an event loop of its own.
    """
    with running_chromium() as running:
        yield running


@pytest.fixture
def free_ports() -> list[int]:
    """Two ports that were free a moment ago."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as two:
        return [one.getsockname()[1], two.getsockname()[1]]
