"""Time and size of what a server may answer, and what a guest agent that exceeds them makes of `Dstack`."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from attest_web.dstack.agent_transport import MAX_ANSWER, AnswerTooLargeError, BoundedTransport
from attest_web.dstack.guest_agent import Dstack, DstackError
from tests.attest_web.guest_agent import agent, answering, as_dstack_answers
from tests.support.limits import limit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dstack.sock"


@contextmanager
def dripping(path: Path, before: bytes) -> Iterator[None]:
    """A server that sends a beginning, and then a byte each 20 ms for as long as the peer is there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            over = threading.Event()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(before)
                    while not over.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(limit())
        assert not thread.is_alive(), "the client has left the connection open"


@pytest.mark.parametrize(
    "before",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{", b"HTTP/1.1 200 OK\r\nName: "],
    ids=["body", "head"],
)
def test_agent_response_that_trickles_in_fails_at_the_deadline(path: Path, before: bytes) -> None:
    began = time.monotonic()
    with dripping(path, before), pytest.raises(DstackError, match=r"it did not answer within 0\.5 seconds"):
        Dstack(str(path), timeout=0.5).quote(b"r" * 64)
    assert time.monotonic() - began < limit(5)


def test_signing_keys_calls_share_one_deadline(path: Path, dstack_vectors: dict[str, Any]) -> None:
    """Each call takes less than the time that there is; all together take more."""
    as_dstack = as_dstack_answers(dstack_vectors)
    over = threading.Event()

    def slowly(name: str, body: dict[str, Any]) -> tuple[int, Any]:
        over.wait(0.4)
        return as_dstack(name, body)

    with agent(path, slowly) as asked:
        with pytest.raises(DstackError, match=r"signing keys: it did not answer within 0\.6 seconds"):
            Dstack(str(path), timeout=0.6).signing_keys("m")
        over.set()
    assert len(asked) == 2


@pytest.mark.parametrize("what", ["quote", "info", "gpu_info"])
def test_agent_response_that_is_too_large_raises_an_error(path: Path, what: str) -> None:
    answer = json.dumps({"attestation": "x" * MAX_ANSWER}).encode()
    dstack = Dstack(str(path))
    calls: dict[str, Any] = {"quote": lambda: dstack.quote(b"r" * 64), "info": dstack.info, "gpu_info": dstack.gpu_info}
    with agent(path, answering(200, answer)), pytest.raises(DstackError, match="its answer is too large"):
        calls[what]()


def answer_of(content: bytes, **headers: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(content)))


def test_bounded_transport_limits_the_size_of_the_decoded_response() -> None:
    packed = gzip.compress(b"x" * 1000)
    request = httpx.Request("POST", "http://localhost/Info")
    with BoundedTransport(answer_of(packed, **{"content-encoding": "gzip"}), 10, 1000) as fits:
        assert fits.handle_request(request).content == b"x" * 1000
    with BoundedTransport(answer_of(packed, **{"content-encoding": "gzip"}), 10, 999) as too_small:
        with pytest.raises(AnswerTooLargeError):
            too_small.handle_request(request)


def test_bounded_transport_past_its_deadline_sends_nothing() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    with BoundedTransport(httpx.MockTransport(answer), 0) as bounded, pytest.raises(httpx.ReadTimeout):
        bounded.handle_request(httpx.Request("POST", "http://localhost/Info"))
    assert asked == []
