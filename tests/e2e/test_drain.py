"""What SIGTERM does to a real proxy, and to those who are connected to it."""

import http.client
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.support.processes import MODEL, ROOT, TOKEN, Process, Proxy, clean_env, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, ScriptedUpstream, chunk, events
from tests.support.limits import limit

DONE = b"data: [DONE]\n\n"


class HeldStream:
    """An upstream whose streams stop after their first event until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.cut = False

    def __call__(self, peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            if "/health" in received.head:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                continue
            first, *rest = events("chatcmpl-drain", "a", "b")
            peer.send(SSE_HEAD + chunk(first))
            if not self.go.wait(limit()) or self.cut:
                return
            peer.send(b"".join(map(chunk, rest)) + LAST_CHUNK)


@pytest.fixture
def held() -> HeldStream:
    return HeldStream()


@contextmanager
def started(
    upstream: ScriptedUpstream, program: str | None = None, *arguments: str, **settings: str
) -> Iterator[Proxy]:
    """A proxy that a test stops by itself."""
    process = start_proxy(upstream.url, *arguments, program=program, **settings)
    try:
        side_port = int(process.wait_for(r"proof pages on side port (\d+)")[1])
        port = int(process.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
        yield Proxy(process, port, side_port)
    finally:
        process.popen.kill()
        process.wait()


@contextmanager
def endless(held: HeldStream) -> Iterator[ScriptedUpstream]:
    """An upstream whose stream goes on until the test is over."""
    with ScriptedUpstream(held) as upstream:
        try:
            yield upstream
        finally:
            held.cut = True
            held.go.set()


def terminate(process: Process, how: signal.Signals = signal.SIGTERM) -> None:
    process.popen.send_signal(how)


def ready(proxy: Proxy) -> tuple[int, str]:
    with Asker(proxy.side_port) as asker:
        status, _, page = asker.get("/ready", token=None)
        return status, page["status"]


def stops_cleanly(process: Process) -> bool:
    status = process.wait(10)
    assert "Traceback" not in process.output
    assert "has crashed" not in process.output
    return status == 0


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("mitmdump", []), ("tee-signer", []), ("mitmweb", ["--no-web-open-browser", "--set", "web_port=0"])],
)
def test_drain_lets_an_open_stream_finish_and_serves_its_signature(
    held: HeldStream, program: str, arguments: list[str]
) -> None:
    with ScriptedUpstream(held) as upstream, started(upstream, program, *arguments, DRAIN_SECONDS="20") as proxy:
        with RawClient(proxy.port) as streaming, RawClient(proxy.port) as idle, Asker(proxy.side_port) as asker:
            idle.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.read_response("GET")[0] == 200
            request = chat_request(chat_body(stream=True))
            streaming.send(request)
            streaming.read_until(b'"content":"a"')
            assert ready(proxy) == (200, "ready")
            terminate(proxy.process)
            assert idle.read_to_end() == b"", "idle connections are closed"
            proxy.process.wait_for("stopping when 1 requests are done, in 20 s at most")
            with pytest.raises(ConnectionRefusedError):
                RawClient(proxy.port)
            assert ready(proxy) == (503, "draining")
            held.go.set()
            assert DONE in streaming.read_until(b"0\r\n\r\n")
            status, signature = asker.signature("chatcmpl-drain")
            assert (status, signature["signing_algo"]) == (200, "ecdsa")
            # on the same connection, too; and nothing else
            streaming.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, body = streaming.read_response("GET")
            assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
            assert error_of(body)["type"] == "server_error"
            assert streaming.read_to_end() == b""
        assert stops_cleanly(proxy.process)
        assert "stopping, all requests are done" in proxy.process.output


def test_drain_serves_the_signature_on_the_streams_own_connection(held: HeldStream) -> None:
    with ScriptedUpstream(held) as upstream, started(upstream, DRAIN_SECONDS="20") as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=limit())
        authorized = {"Authorization": "Bearer other-token"}
        connection.request("POST", "/v1/chat/completions", chat_body(stream=True), authorized)
        response = connection.getresponse()
        assert b'"content":"a"' in response.readline()
        terminate(proxy.process)
        proxy.process.wait_for("stopping when 1 requests are done")
        held.go.set()
        assert DONE in response.read()
        proxy.process.wait_for("stopping, all requests are done")
        connection.request("GET", "/v1/signature/chatcmpl-drain", headers=authorized)
        assert json.loads(connection.getresponse().read())["signing_algo"] == "ecdsa"
        assert stops_cleanly(proxy.process)
        connection.close()


def test_drain_deadline_cuts_an_open_stream_and_leaves_it_unsigned(held: HeldStream) -> None:
    with endless(held) as upstream, started(upstream, DRAIN_SECONDS="0.3") as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            client.read_until(b'"content":"a"')
            terminate(proxy.process)
            assert DONE not in client.read_to_end()
        assert stops_cleanly(proxy.process)
        assert "stopping, 1 requests are cut" in proxy.process.output
        assert "not signed: the exchange was cut short" in proxy.process.output


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_drain_second_signal_stops_at_once(held: HeldStream, how: signal.Signals) -> None:
    with endless(held) as upstream, started(upstream, DRAIN_SECONDS="600") as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            client.read_until(b'"content":"a"')
            terminate(proxy.process)
            proxy.process.wait_for("stopping when 1 requests are done")
            terminate(proxy.process, how)
            assert proxy.process.wait(10) == 0
            assert DONE not in client.read_to_end()


def test_drain_with_no_request_in_progress_stops_at_once(held: HeldStream) -> None:
    with endless(held) as upstream, started(upstream, DRAIN_SECONDS="600") as proxy:
        with RawClient(proxy.port) as silent, RawClient(proxy.port) as half:
            half.send(b"GET /health HTTP/1.1\r\nHos")
            with Asker(proxy.port) as asker:  # both are there by now
                assert asker.get("/health", token=None)[0] == 200
                terminate(proxy.process)
                assert stops_cleanly(proxy.process)
            assert silent.read_to_end() == half.read_to_end() == b""
        assert re.search("stopping when 0 requests are done", proxy.process.output)


def test_run_script_forwards_sigterm_and_exits_with_the_proxys_status(held: HeldStream, free_ports: list[int]) -> None:
    with ScriptedUpstream(held) as upstream:
        settings = {"VLLM_BASE_URL": upstream.url, "MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1"}
        env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT=str(free_ports[1]), **settings)
        process = Process(["setsid", ROOT / "scripts" / "run"], env)
        try:
            process.wait_for(r"Ready\.", timeout=120)
            with RawClient(free_ports[0]) as client:
                client.send(chat_request(chat_body(stream=True)))
                client.read_until(b'"content":"a"')
                terminate(process)
                process.wait_for("stopping when 1 requests are done")
                held.go.set()
                assert DONE in client.read_until(b"0\r\n\r\n")
            assert stops_cleanly(process)
        finally:
            process.stop(signal.SIGINT)
