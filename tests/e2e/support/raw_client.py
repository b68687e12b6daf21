"""A client on a raw socket, for tests of exact bytes."""

import http.client
import json
import socket
from typing import Any, Self

from tests.e2e.support.processes import MODEL, TOKEN, Proxy
from tests.support.limits import limit


def chat_body(content: str = "hi", **more: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}], **more}).encode()


def chat_request(body: bytes, token: str | None = TOKEN, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """A whole request, head and body."""
    lines = [f"POST {path} HTTP/1.1", "Host: proxy", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class RawClient:
    """A connection to the proxy."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=limit())
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_until(self, end: bytes) -> bytes:
        """Read until `end` has arrived; return everything up to it, and keep the rest."""
        while end not in self.received:
            data = self.sock.recv(65536)
            assert data, f"the connection ended after {self.received!r}"
            self.received += data
        at = self.received.index(end) + len(end)
        found, self.received = self.received[:at], self.received[at:]
        return found

    def read_to_end(self) -> bytes:
        """Read until the other side closes the connection; an RST counts too."""
        try:
            while data := self.sock.recv(65536):
                self.received += data
        except ConnectionResetError:
            pass
        found, self.received = self.received, b""
        return found

    def read_response(self, method: str = "POST") -> tuple[int, http.client.HTTPMessage, bytes]:
        """Read one response with Python's HTTP parser; nothing may have been read before."""
        assert not self.received
        response = http.client.HTTPResponse(self.sock, method=method)
        response.begin()
        body = response.read()
        return response.status, response.headers, body


class Asker:
    """Requests signatures on a connection that is kept open, so that each request is as early as possible."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit())
        self._connection.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, token: str | None = TOKEN) -> tuple[int, http.client.HTTPMessage, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.headers, json.loads(response.read())

    def signature(self, chat_id: str, algo: str = "ecdsa") -> tuple[int, dict[str, str]]:
        status, _, body = self.get(f"/v1/signature/{chat_id}?signing_algo={algo}")
        return status, body


def signature_status(proxy: Proxy, chat_id: str) -> int:
    with Asker(proxy.port) as asker:
        return asker.signature(chat_id)[0]


def error_of(body: bytes, code: object = None) -> dict[str, Any]:
    """The error object of an error in the contract's shape, with the expected code."""
    parsed = json.loads(body)
    assert parsed.keys() == {"error"}
    error: dict[str, Any] = parsed["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] is None
    assert error["code"] == code
    return error
