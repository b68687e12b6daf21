"""A guest agent on a Unix socket that answers as a test tells it to, or as dstack's own has answered."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import key_pem, self_signed

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]
"""From a path and the arguments to the status and the answer: bytes, or what goes into JSON."""


@contextmanager
def agent(path: Path, answer: Answer) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """An agent; gives what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            status, content = answer(self.path, body)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def answering(status: int, content: Any) -> Answer:
    return lambda path, body: (status, content)


def as_dstack_answers(dstack_vectors: dict[str, Any], **instead: Any) -> Answer:
    """The answers of dstack's own agent, version 0.6.0, to model `m`; TLS keys alone are made here, one a call.

    Args:
        dstack_vectors: The fixture of that name.
        instead: Other answers, by method: a status and an answer, or None for a method that it does not know.
    """
    seen = dstack_vectors["real_agent"]
    keys = [answer for answer in seen["keys"]["answers"] if "path" in answer["request"]]

    def get_key(body: dict[str, Any]) -> Any:
        algorithm = {"ed25519": "ed25519"}.get(body["algorithm"])
        wanted = (body["path"], body["purpose"], algorithm)
        [answer] = [
            key["answer"]
            for key in keys
            if (key["request"]["path"], key["request"]["purpose"], key["request"].get("algorithm")) == wanted
        ]
        return answer

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        method = path.removeprefix("/")
        if method in instead:
            told: tuple[int, Any] | None = instead[method]
            return told or unknown_method(method)
        if method == "GetKey":
            return 200, get_key(body)
        if method == "GetTlsKey":
            key = ec.generate_private_key(ec.SECP256R1())
            return 200, {"key": key_pem(key).decode(), "certificate_chain": [self_signed(key).decode()]}
        canned = {
            "Version": {"version": "0.6.0", "rev": "git:312dc605ebaaf9337253"},
            "GetQuote": seen["v1"]["GetQuote"],
            "Info": seen["v1"]["Info_without_app_cert"],
            "GpuInfo": {"attestation": dstack_vectors["gpu"]["gpu_info_attestation"]},
        }
        return (200, canned[method]) if method in canned else unknown_method(method)

    return answer


def unknown_method(method: str) -> tuple[int, Any]:
    """As dstack's agent answers to a method that its version does not have."""
    return 400, {"error": f"Service not found: {method}"}
