"""A man in the middle: forwards everything, except for the bodies that a test replaces."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tests.support.limits import limit

Where = Literal["request", "answer"]
Lie = Callable[[Where, str, bytes], bytes]
"""Called with a request's path and a piece of its body or of its response's, for a POST; returns what to forward."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"}


def honest(where: Where, path: str, body: bytes) -> bytes:
    return body


class LyingProxy(ThreadingHTTPServer):
    """The proxy.

    Attributes:
        port: The port to which it forwards.
        lie: Replaces the pieces of bodies.
        refuse: Statuses to respond with instead of forwarding a POST, each once.
        asked: Methods and paths, without queries, of the received requests.
        with_token: Those of them with an `Authorization`.
        headers: The last request's headers for a POST.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.lie: Lie = honest
        self.refuse: list[int] = []
        self.asked: list[str] = []
        self.with_token: list[str] = []
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up


class _Handler(BaseHTTPRequestHandler):
    server: LyingProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if "Authorization" in self.headers:
            self.server.with_token.append(f"{self.command} {path}")
        body = self.server.lie("request", path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
        if self.command == "POST":
            self.server.headers = {name.lower(): value for name, value in self.headers.items()}
            if self.server.refuse:
                self.send_response(self.server.refuse.pop(0))
                self.send_header("Content-Length", "0")
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=limit())
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := answer.read1(65536) if self.command == "POST" else answer.read():
                if passed := self.server.lie("answer", path, piece):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(passed), passed))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            upstream.close()


@contextmanager
def lying_proxy(port: int) -> Iterator[LyingProxy]:
    """A lying proxy in front of a port, for as long as the context lasts."""
    with LyingProxy(port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(limit(5))
