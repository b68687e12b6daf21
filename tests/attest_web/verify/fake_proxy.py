"""A proxy that answers as it is told to: truthfully, unless an answer is replaced."""

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attest_web.signatures import SigningAlgo, sign_text, signed_text
from tests.attest_web.verify.minting import KEYS, report

TOKEN = "s3cret-token"
RECEIPT = "rcpt-" + "0" * 24
Replacement = tuple[int, bytes]


class FakeProxy(ThreadingHTTPServer):
    """The server.

    Attributes:
        replaced: Status and body by beginning of a path.
        asked: Paths that were asked for.
        tokens: `Authorization` headers that came.
        received: Request lines that came, also those that make no sense.
        spki: What the reports say of the TLS key.
        receipts: The `x-receipt-id` lines of every answer.
    """

    daemon_threads = True

    def __init__(self, replaced: dict[str, Replacement], spki: bytes | None, receipts: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replaced = replaced
        self.spki = spki
        self.receipts = receipts
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.received: list[bytes] = []
        self.signed: dict[str, str] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FakeProxy
    protocol_version = "HTTP/1.1"
    raw_requestline: bytes

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def parse_request(self) -> bool:
        self.server.received.append(self.raw_requestline)
        return super().parse_request()

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers["Authorization"])
        for path, (status, content) in self.server.replaced.items():
            if self.path.startswith(path):
                return self._send(status, content)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        algo: SigningAlgo = "ed25519" if query.get("signing_algo") == "ed25519" else "ecdsa"
        if self.path == "/v1/models":
            return self._send(200, {"data": [{"id": "demo"}]})
        if self.path == "/v1/chat/completions":
            return self._chat(body)
        if self.path.startswith("/v1/signature/"):
            address = KEYS.ecdsa_address if algo == "ecdsa" else KEYS.ed25519_address
            signature = self.server.signed[f"signature_{algo}"]
            answer = {"text": self.server.signed["text"], "signature": signature}
            return self._send(200, answer | {"signing_address": address, "signing_algo": algo})
        spki = self.server.spki if query["include_tls_fingerprint"] == "true" else None
        return self._send(200, report(algo, nonce=bytes.fromhex(query["nonce"]), spki=spki, dev=True))

    def _chat(self, request: bytes) -> None:
        stream = json.loads(request).get("stream", False)
        response = b'{"id":"chatcmpl-1","choices":[]}'
        if stream:
            response = b": hi\r\n\r\ndata: {}\r\n\r\ndata: " + response + b"\r\n\r\ndata: [DONE]\r\n\r\n"
        hashes = hashlib.sha256(request).hexdigest(), hashlib.sha256(response).hexdigest()
        self.server.signed = dict(sign_text(KEYS, signed_text(*hashes)))  # type: ignore[arg-type]
        self._send(200, response, "text/event-stream" if stream else "application/json")

    def _send(self, status: int, content: object, kind: str = "application/json") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for receipt in self.server.receipts:
            self.send_header("x-receipt-id", receipt)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_proxy(
    replaced: dict[str, Replacement] | None = None,
    spki: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    receipts: Sequence[str] = (RECEIPT,),
) -> Iterator[FakeProxy]:
    """A fake proxy, for as long as the context lasts."""
    with FakeProxy(replaced or {}, spki, receipts) as proxy:
        if tls is not None:
            proxy.socket = tls.wrap_socket(proxy.socket, server_side=True)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(5)
