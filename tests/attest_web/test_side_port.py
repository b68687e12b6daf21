import errno
import http.client
import json
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from attest_web.listening import listen
from attest_web.side_port import SidePort
from tests.limits import limit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def hello(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def ask(port: int, host: str = "127.0.0.1") -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=limit(5))
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def side_port_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "side port" or "waitress" in thread.name]


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_it_answers_until_it_is_stopped_and_leaves_nothing_behind(host: str) -> None:
    side_port = SidePort(hello, host, 0)
    side_port.start()
    assert ask(side_port.port) == b"hello"
    idle = http.client.HTTPConnection("127.0.0.1", side_port.port, timeout=limit(5))
    idle.request("GET", "/")
    assert idle.getresponse().read() == b"hello"
    threads = side_port_threads()
    side_port.stop()
    for thread in threads:  # a worker signs off a moment before its thread is gone
        thread.join(5)
    assert not side_port_threads()
    assert idle.sock.recv(1) == b""  # a kept-alive connection is closed
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        ask(side_port.port)
    # and the port is free again
    again = SidePort(hello, host, side_port.port)
    again.start()
    assert ask(again.port) == b"hello"
    again.stop()


def fail(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    raise RuntimeError


@pytest.mark.parametrize(
    ("request_head", "status", "kind"),
    [
        (b"GET / HTTP/1.1\r\nX: a\r\n b\0\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", 413, "payload_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431, "bad_request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "server_error"),
        (b"GET / HTTP/1.1\r\n\r\n", 500, "server_error"),
    ],
)
def test_what_no_page_sees_is_refused_in_the_shape_of_all_errors(request_head: bytes, status: int, kind: str) -> None:
    side_port = SidePort(fail, "127.0.0.1", 0)
    side_port.start()
    try:
        with socket.create_connection(("127.0.0.1", side_port.port), timeout=limit()) as client:
            client.sendall(request_head)
            response = http.client.HTTPResponse(client)
            response.begin()
            assert (response.status, response.headers["content-type"]) == (status, "application/json")
            assert response.headers["connection"] == "close"
            assert json.loads(response.read())["error"]["type"] == kind
    finally:
        side_port.stop()


def test_a_stop_waits_for_the_pull_that_its_thread_did_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    # An answer on its way wakes the server's thread too. It then finds the steps of the stop before it is told of them.
    side_port = SidePort(hello, "127.0.0.1", 0)
    side_port.start()
    [thread] = [thread for thread in side_port_threads() if thread.name == "side port"]
    trigger = side_port._server.trigger
    pull = trigger._physical_pull

    def pull_late() -> None:
        pull()
        thread.join(0.2)
        pull()  # into a closed descriptor, if the thread has gone ahead

    monkeypatch.setattr(trigger, "_physical_pull", pull_late)
    side_port.stop()
    assert not thread.is_alive()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_without_a_host_it_listens_on_ipv6_too() -> None:
    side_port = SidePort(hello, "", 0)
    side_port.start()
    assert ask(side_port.port, "::1") == b"hello"
    side_port.stop()


def test_it_can_be_stopped_before_it_was_started() -> None:
    side_port = SidePort(hello, "127.0.0.1", 0)
    side_port.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(side_port.port)


def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:  # noqa: PT011  # see below
        SidePort(hello, "127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_another_one_at_the_same_port_takes_over_when_it_stops_accepting() -> None:
    def answers(text: bytes) -> "WSGIApplication":
        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            start_response("200 OK", [("Content-Length", "3")])
            return [text]

        return app

    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        old = SidePort(answers(b"old"), "", 0, listener.dup())
        old.start()
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=limit(5))
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"old"
        new = SidePort(answers(b"new"), "", 0, listener.dup())
        old.stop_accepting()
        new.start()
        assert [ask(port) for _ in range(20)] == [b"new"] * 20
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"old"
        kept.close()
        old.stop()
        new.stop()
    assert not side_port_threads()
