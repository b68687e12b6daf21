"""What an upstream does wrong, and what comes of it: an error in the contract's shape, or the same bytes, unsigned.
Never a stack trace, a wrong signature, or a connection that is stuck."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import h11
import pytest

from tests.e2e.support import faulty_upstream as faults
from tests.e2e.support.http2_client import Http2Client, fields
from tests.e2e.support.processes import PROGRAMS, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of, signature_status
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, json_response
from tests.support import verification

REQUEST = chat_body()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """A proxy that tells everything it has to tell, in front of an upstream that does what requests wish for."""
    talkative = ["-v"]
    with ScriptedUpstream(faults.faulty) as upstream:
        with running_proxy(upstream.url, *talkative, VLLM_PROXY_TIMEOUT_SECS="1.5") as running:
            yield running
    said = running.process.output
    assert faults.CANARY.decode() not in said
    assert "choices" not in said


@dataclass(frozen=True)
class Answer:
    """What a client that is strict about HTTP makes of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool


def read_answer(client: RawClient) -> Answer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**21)
    http.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    http.send(h11.EndOfMessage())
    status, body = 0, b""
    headers: dict[str, str] = {}
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            if "closed connection" not in str(error):
                raise  # what came is not HTTP
            return Answer(status, headers, body, complete=False)
        if event is h11.NEED_DATA:
            try:
                http.receive_data(client.sock.recv(65536))
            except ConnectionResetError:
                http.receive_data(b"")
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, {k.decode(): v.decode() for k, v in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert not event.headers
            return Answer(status, headers, body, complete=True)
        else:
            assert isinstance(event, h11.ConnectionClosed)
            return Answer(status, headers, body, complete=False)


def exchange(proxy: Proxy, fault: str) -> Answer:
    """One chat with this fault; and then one without, over the same connection if it is still there, and a new one."""
    with RawClient(proxy.port) as client:
        client.send(chat_request(REQUEST, X_Fault=fault))
        answer = read_answer(client)
        with contextlib.suppress(ConnectionError):  # closed, which it may be
            client.send(chat_request(REQUEST))
            if client.sock.recv(1, 2):  # MSG_PEEK
                assert read_answer(client).body == b'{"id":"fine"}'
    with RawClient(proxy.port) as client:
        client.send(chat_request(REQUEST))
        assert read_answer(client).body == b'{"id":"fine"}', "the next client has to suffer for it"
    return answer


def check_unsigned(proxy: Proxy, answer: Answer) -> None:
    if receipt := answer.headers.get("x-receipt-id"):
        assert signature_status(proxy, receipt) == 404
    assert signature_status(proxy, faults.ID.decode()) == 404


@pytest.mark.parametrize("fault", faults.UNREADABLE)
def test_malformed_response_gives_502(proxy: Proxy, fault: str) -> None:
    answer = exchange(proxy, fault)
    assert (answer.status, error_of(answer.body)["type"]) == (502, "bad_gateway")
    assert "x-injected" not in answer.headers
    check_unsigned(proxy, answer)


def test_response_that_does_not_begin_in_time_gives_504(proxy: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(proxy.port)) for _ in faults.LATE]
        for client, fault in zip(clients, faults.LATE, strict=True):
            client.send(chat_request(REQUEST, X_Fault=fault))
        for client in clients:
            answer = read_answer(client)
            assert (answer.status, error_of(answer.body)["type"]) == (504, "gateway_timeout")
            check_unsigned(proxy, answer)


@pytest.mark.parametrize("fault", faults.BROKEN)
def test_truncated_response_is_truncated_for_the_client_and_unsigned(proxy: Proxy, fault: str) -> None:
    answer = exchange(proxy, fault)
    assert answer.status == 200
    assert not answer.complete
    check_unsigned(proxy, answer)


@pytest.mark.parametrize("fault", faults.UNSIGNED)
def test_unsignable_response_is_forwarded_unchanged_and_unsigned(proxy: Proxy, fault: str) -> None:
    answer = exchange(proxy, fault)
    assert answer.complete
    assert answer.body == faults.UNSIGNED[fault][1]
    check_unsigned(proxy, answer)


@pytest.mark.parametrize("fault", faults.SIGNED)
def test_unusual_response_is_forwarded_unchanged_and_signed(proxy: Proxy, fault: str) -> None:
    answer = exchange(proxy, fault)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == faults.SIGNED[fault][1]
    with Asker(proxy.port) as asker:
        status, signed = asker.signature(answer.headers["x-receipt-id"])
    assert status == 200
    verification.check(signed, REQUEST, answer.body)


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and waits"])
@pytest.mark.parametrize("early", faults.EARLY)
def test_response_during_an_upload_arrives_complete_and_unsigned(proxy: Proxy, early: str, closes: bool) -> None:
    if not closes and early == "until the end of the connection":
        return
    upload = chat_request(
        b"x" * 300_000, path="/v1/audio/transcriptions", X_Early=early, X_Closes="1" if closes else ""
    )
    with RawClient(proxy.port) as client:
        client.send(upload[:200_000])
        answer = read_answer(client)
        assert (answer.body, answer.complete) == (faults.BODY, True)
        with contextlib.suppress(ConnectionError):
            client.send(upload[200_000:])
    check_unsigned(proxy, answer)
    with RawClient(proxy.port) as client:
        client.send(chat_request(REQUEST))
        assert read_answer(client).body == b'{"id":"fine"}'


EARLY_STATUSES = ["413 Content Too Large", "401 Unauthorized", "503 Service Unavailable", "500 Internal Server Error"]
UPLOADS = {"it streams": "/v1/audio/transcriptions", "it is held": "/v1/chat/completions", "it is any": "/v1/files"}
UPLOAD = b'{"x":"' + b"x" * 1_000_000 + b'"}'


def answer_at_once(peer: Peer) -> None:
    """Answer with the status that the request's head asks for, and close, with the body unread."""
    while (head := peer.read_head()) is not None:
        if (status := head.header("x-early")) is None:
            peer.read_body(head)
            peer.send(json_response(b'{"id":"fine"}'))
            continue
        peer.send(json_response(faults.BODY, status))
        peer.close_unread()
        return


@pytest.fixture(scope="module")
def hasty_upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(answer_at_once) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=PROGRAMS)
def hurried(hasty_upstream: ScriptedUpstream, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy before an upstream that answers before it has read a body, and then closes with RST."""
    with running_proxy(hasty_upstream.url, program=request.param) as running:
        yield running


@pytest.mark.parametrize("used", [False, True], ids=["a new connection", "a used one"])
@pytest.mark.parametrize("path", UPLOADS.values(), ids=UPLOADS)
def test_early_response_survives_the_upstream_reset_that_follows_it(hurried: Proxy, path: str, used: bool) -> None:
    """Many times, as it is a race: the write that fails, and the answer that is there to be read."""
    got = []
    for number in range(16):
        status = EARLY_STATUSES[number % len(EARLY_STATUSES)]
        with RawClient(hurried.port) as client:
            if used:
                client.send(chat_request(REQUEST))
                assert client.read_response()[0] == 200
            with contextlib.suppress(ConnectionError):
                upload = chat_request(UPLOAD, path=path, X_Early=status)
                for at in range(0, len(upload), 100_000):
                    client.send(upload[at : at + 100_000])
            answer = read_answer(client)
        got.append(answer.status == int(status[:3]) and answer.complete)
    assert got == [True] * 16


def test_early_response_survives_the_upstream_reset_over_http2(hurried: Proxy) -> None:
    got = []
    for number in range(16):
        status = EARLY_STATUSES[number % len(EARLY_STATUSES)]
        path = list(UPLOADS.values())[number % len(UPLOADS)]
        with Http2Client(hurried.port) as client:
            stream = client.begin(fields("POST", path, ("x-early", status)))
            answer = client.answers[stream]
            for at in range(0, len(UPLOAD), 10_000):
                # At most what the windows allow for.
                client.wait(lambda: client.h2.local_flow_control_window(stream) >= 10_000 or answer.ended)  # noqa: B023
                if answer.ended or answer.reset is not None:
                    break
                client.send(stream, UPLOAD[at : at + 10_000])
            else:
                client.send(stream, b"", end=True)
            client.finish(stream)
            got.append((answer.status, answer.ended and answer.body.startswith(b"{")))
    assert got == [(int(EARLY_STATUSES[number % len(EARLY_STATUSES)][:3]), True) for number in range(16)]
