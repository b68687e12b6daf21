"""The side port of a real proxy under what strangers do to it, and in a stop."""

import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from attest_web.gpu.evidence import find_gpu_python
from tests.e2e.support.processes import PROGRAMS, ROOT, Proxy, running_proxy, running_simulator, start_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, json_response
from tests.support.limits import limit

ATTACKER, OTHER = "127.0.0.1", "127.0.0.2"
"""Both of them this machine's: with RATE_LIMIT_NO_TRUST_PROXY=1, one client each."""

needs_gpu_library = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)
UNTRUSTED = {"RATE_LIMIT_NO_TRUST_PROXY": "1"}
HALF_HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
HALF_BODY = b"POST /v1/signature/x HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\nx"
WHOLE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=limit(), source_address=(source, 0))


def status_of(port: int, path: str, source: str = OTHER, when_sent: Callable[[], object] = lambda: None) -> int:
    """What a new connection gets for a request."""
    with connect(port, source) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer other-token\r\n\r\n".encode())
        when_sent()
        head = b""
        while b"\r\n" not in head:
            data = client.recv(65536)
            assert data, "the connection was closed unanswered"
            head += data
        return int(head.split(b" ", 2)[1])


def serves(port: int) -> None:
    """Everything that a client may want is there for it, in time."""
    for path, status in (("/health", 200), ("/v1/attestation/report", 503), ("/v1/signature/unknown", 404)):
        assert status_of(port, path) == status, path


@pytest.fixture(scope="module", autouse=True)
def enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The side port is served by the same code under either program, the proxied port is not.
@pytest.mark.parametrize(
    ("program", "which"), [("tee-signer", "port"), ("tee-signer", "side_port"), ("mitmdump", "port")]
)
@pytest.mark.parametrize(
    ("said", "how_many"),
    [(HALF_HEAD, 250), (HALF_BODY, 250), (WHOLE * 20, 250), (b"", 1000)],
    ids=["half heads", "half bodies", "answers that are not read", "connections"],
)
def test_connections_held_open_by_one_address_block_no_other_client(
    fake_vllm: str, program: str, said: bytes, how_many: int, which: str
) -> None:
    with running_proxy(fake_vllm, program=program, MAX_CONNECTIONS="200", **UNTRUSTED) as proxy, ExitStack() as held:
        port = getattr(proxy, which)
        for _ in range(how_many):
            client = held.enter_context(connect(port, ATTACKER))
            with contextlib.suppress(ConnectionError):  # it has been closed: it was one too many
                client.sendall(said)
        serves(port)
        refused = {"port": "MAX_CONNECTIONS 200", "side_port": "the side port's quarter of MAX_CONNECTIONS 64"}[which]
        proxy.process.wait_for(f"connections refused: one address has its share, .*, of {refused}")


@pytest.mark.parametrize("which", ["port", "side_port"])
def test_trusted_proxy_address_is_exempt_from_the_connection_share(fake_vllm: str, which: str) -> None:
    with running_proxy(fake_vllm, MAX_CONNECTIONS="64") as proxy, ExitStack() as held:
        clients = [held.enter_context(connect(getattr(proxy, which), ATTACKER)) for _ in range(40)]
        for client in clients:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_head", "status", "kind"),
    [
        (b"GET / HTTP/1.1\r\nX: a\r\n b\0\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, "payload_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    ],
)
def test_malformed_request_gets_a_json_error_and_a_close(
    proxy: Proxy, request_head: bytes, status: int, kind: str
) -> None:
    with RawClient(proxy.side_port) as client:
        client.send(request_head)
        answered, headers, body = client.read_response("GET")
        assert (answered, headers["content-type"], headers["connection"]) == (status, "application/json", "close")
        assert error_of(body)["type"] == kind


@pytest.mark.parametrize("program", PROGRAMS)
def test_side_port_forwards_nothing_to_the_upstream(program: str) -> None:
    asked = []

    def note(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            asked.append(received.head)
            peer.send(json_response(b"{}"))

    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n"
    requests = [
        chat_request(chat_body()),
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer other-token\r\n" + upgrade + b"\r\n",
        b"GET /anything HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    with ScriptedUpstream(note) as upstream, running_proxy(upstream.url, program=program) as proxy:
        for request in requests:
            with RawClient(proxy.side_port) as client:
                client.send(request)
                status, _, body = client.read_response(request[:4].decode().strip())
                assert status == 404, request
                assert error_of(body)["type"] == "not_found"
        with RawClient(proxy.side_port) as client:
            client.send(b"CONNECT vllm:8000 HTTP/1.1\r\nHost: vllm:8000\r\n\r\n")
            assert client.read_response("GET")[0] in (400, 404)
    assert asked == []


class Reports:
    """Clients at the side port that wait for a fresh report each, which takes a second to make."""

    def __init__(self, port: int, how_many: int) -> None:
        self.got: list[object] = []
        self._port, self._sent = port, threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._ask, args=(port, number)) for number in range(how_many)]
        for thread in self._threads:
            thread.start()

    def _ask(self, port: int, number: int) -> None:
        try:
            path = f"/v1/attestation/report?nonce={number:064x}"
            self.got.append(status_of(port, path, when_sent=self._sent.release))
        except (OSError, AssertionError) as error:
            self.got.append(error)

    def wait_until_under_way(self) -> None:
        for _ in self._threads:
            assert self._sent.acquire(timeout=limit())
        assert status_of(self._port, "/version") == 200  # what was sent before has been read by now

    def wait(self) -> list[object]:
        for thread in self._threads:
            thread.join(limit(30))
        return self.got


@contextmanager
def started(upstream: str, program: str, *arguments: str, **settings: str) -> Iterator[Proxy]:
    """A proxy that a test stops by itself."""
    process = start_proxy(upstream, *arguments, program=program, **settings)
    try:
        side_port = int(process.wait_for(r"proof pages on side port (\d+)")[1])
        port = int(process.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
        yield Proxy(process, port, side_port)
    finally:
        process.stop(signal.SIGINT)


@needs_gpu_library
@pytest.mark.parametrize(
    ("program", "which"), [("tee-signer", "port"), ("tee-signer", "side_port"), ("mitmdump", "side_port")]
)
def test_sigterm_waits_for_reports_in_progress(fake_vllm: str, tmp_path: Path, program: str, which: str) -> None:
    with running_simulator(tmp_path, "--delay", "1") as simulator:
        settings = {**simulator.settings, "DRAIN_SECONDS": "60"}
        with started(fake_vllm, program, **settings) as proxy:
            reports = Reports(getattr(proxy, which), 6)
            reports.wait_until_under_way()
            proxy.process.popen.send_signal(signal.SIGTERM)
            proxy.process.wait_for("stopping when 6 requests are done")
            assert reports.wait() == [200] * 6
            assert proxy.process.wait(limit()) == 0
            assert "Traceback" not in proxy.process.output


@needs_gpu_library
def test_report_requested_during_shutdown_is_served(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--delay", "2.5") as simulator:
        with started(fake_vllm, "tee-signer", **simulator.settings, DRAIN_SECONDS="60") as proxy:
            first = Reports(proxy.side_port, 1)
            first.wait_until_under_way()
            proxy.process.popen.send_signal(signal.SIGTERM)
            assert first.wait() == [200]
            proxy.process.wait_for("stopping, all requests are done")
            late = Reports(proxy.side_port, 2)  # within the time in which signatures can still be fetched
            assert late.wait() == [200, 200]
            assert proxy.process.wait(limit()) == 0


@needs_gpu_library
def test_sighup_under_load_cuts_no_report(fake_vllm: str, tmp_path: Path) -> None:
    with running_simulator(tmp_path, "--delay", "0.3") as simulator:
        settings = {**simulator.settings, "DEV": "1"}
        with started(fake_vllm, "tee-signer", "--workers", "2", **settings) as proxy:
            proxy.process.wait_for("(?s)(proof pages on side port.*){2}")
            got: list[object] = []
            over = threading.Event()

            def ask() -> None:
                while not over.is_set():
                    got.extend(Reports(proxy.side_port, 3).wait())

            asking = threading.Thread(target=ask)
            asking.start()
            proxy.process.popen.send_signal(signal.SIGHUP)
            proxy.process.wait_for("SIGHUP: all workers are new")
            proxy.process.wait_for("(?s)(retiring: stopping.*){2}")
            before = len(got)
            while len(got) < before + 6:
                over.wait(0.05)
            over.set()
            asking.join(limit(30))
            assert got == [200] * len(got)
