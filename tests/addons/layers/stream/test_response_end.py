"""How a response is sent on, and that its last bytes wait for its signature; in memory."""

import hashlib
from concurrent.futures import Future

import pytest
from mitmproxy import http
from mitmproxy.proxy import commands, events

from addons.bodies.signing_filter import SigningFilter
from addons.signing.store_hook import StoringHook
from tests.addons.layers.dollar_reader import DollarReader
from tests.addons.layers.stream.client import CHUNKED, GET, POST, Client


class Signed:
    """A client whose responses are signed, and whose signatures are stored on demand."""

    def __init__(self, *, durable: bool = False, size: int | None = None, streams: bool = True) -> None:
        self.signed: list[str] = []
        self.stored: Future[None] = Future()
        self.waiting: list[commands.StartHook] = []
        self.client = Client(streams=streams)
        self._durable = durable
        self._size = size
        self.client.at("responseheaders", self._filter)
        # A hook that is not done until the test completes it.
        obey = self.client.wire._obey

        def hold(command: commands.Command) -> None:
            if isinstance(command, StoringHook):
                self.waiting.append(command)
            else:
                obey(command)

        self.client.wire._obey = hold  # type: ignore[method-assign]

    def _filter(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = SigningFilter(DollarReader(), self._sign, self._size, durable=self._durable)

    def _sign(self, passed: SigningFilter) -> Future[None] | None:
        self.signed.append(passed.digests[1])
        return self.stored if self._durable else None


def test_response_end_last_bytes_are_sent_once_the_response_is_signed() -> None:
    signed = Signed()
    wire = signed.client.wire
    signed.client.send(GET)
    server = wire.connect()
    wire.receive(server, CHUNKED + b"2\r\na$\r\n")
    assert wire.to_client.endswith(b"1\r\na\r\n")
    assert signed.signed == []
    wire.receive(server, b"0\r\n\r\n")
    assert wire.to_client.endswith(b"1\r\na\r\n1\r\n$\r\n0\r\n\r\n")
    assert signed.signed == [hashlib.sha256(b"a$").hexdigest()]


def test_response_end_last_bytes_wait_until_the_signature_is_stored() -> None:
    signed = Signed(durable=True)
    wire = signed.client.wire
    signed.client.send(GET)
    wire.receive(wire.connect(), CHUNKED + b"2\r\na$\r\n0\r\n\r\n")
    [hook] = signed.waiting
    assert isinstance(hook, StoringHook)
    assert hook.stored is signed.stored
    assert wire.to_client.endswith(b"1\r\na\r\n")
    wire.feed(events.HookCompleted(hook))
    assert wire.to_client.endswith(b"1\r\na\r\n1\r\n$\r\n0\r\n\r\n")
    assert signed.signed == [hashlib.sha256(b"a$").hexdigest()], "once"


def test_response_end_truncated_response_is_unsigned_and_its_last_bytes_are_withheld() -> None:
    signed = Signed()
    wire = signed.client.wire
    signed.client.send(GET)
    server = wire.connect()
    wire.receive(server, CHUNKED + b"2\r\na$\r\n")
    wire.close(server)
    assert wire.to_client.endswith(b"1\r\na\r\n")
    assert signed.signed == []


def test_response_end_last_byte_of_a_known_length_waits_for_the_signature() -> None:
    signed = Signed(durable=True, size=3)
    wire = signed.client.wire
    signed.client.send(GET)
    wire.receive(wire.connect(), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    [hook] = signed.waiting
    assert wire.to_client.endswith(b"\r\n\r\nab")
    wire.feed(events.HookCompleted(hook))
    assert b"\r\n\r\nabc" in wire.to_client


@pytest.mark.parametrize(
    ("request_", "head", "expected"),
    [
        (GET, CHUNKED, True),
        (GET.replace(b"1.1", b"1.0"), CHUNKED, False),
        (GET, CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 9"), False),
        (POST + b"bo", CHUNKED, False),
    ],
    ids=["chunked", "HTTP/1.0", "by length", "the request goes on"],
)
def test_fast_path_is_enabled_only_for_a_response_forwarded_in_its_own_chunks(
    request_: bytes, head: bytes, expected: bool
) -> None:
    signed = Signed(size=9 if b"Length" in head else None)
    enabled: list[object] = []
    layer = signed.client.wire.layer
    layer.enable_fast_path = lambda server, pipeline: enabled.append(pipeline)  # type: ignore[attr-defined]
    signed.client.send(request_)
    signed.client.wire.receive(signed.client.wire.connect(), head)
    assert bool(enabled) is expected
