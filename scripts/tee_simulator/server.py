"""HTTP on a Unix socket, as dstack's guest agent speaks it.

`POST /Method` with a JSON object, or `GET /Method?field=value`. All that a method refuses is 400 with `{"error": …}`;
what reaches no method is an HTML page. Of the agent's two encodings this has JSON alone: a POST without a JSON content
type, which the agent answers in protobuf, is read and answered in JSON as well.
"""

import json
import os
import socket
import socketserver
import stat
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scripts.tee_simulator.agent import JsonObject, Read, RequestError
from scripts.tee_simulator.arguments import Arguments

MAX_BODY = 10 << 20
"""Bytes of a request's body at most, the agent's limit."""

IDLE_TIMEOUT = 15.0
"""Seconds that a connection may say nothing, as with dstack's agent: clients wait for its end that misread a length."""

Answer = Callable[[str, Read], JsonObject | None]
"""Answers a call by its method's name; raises `RequestError`."""


class SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves methods at a path.

    Attributes:
        answer: The methods.
        prefix: What stands in front of their names in a target.
        delay: Seconds that every answer takes at least.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, answer: Answer, prefix: str = "/", delay: float = 0) -> None:
        """Listen at a path.

        Raises:
            OSError: The path cannot be listened at; `FileExistsError` where something is there that must stay.
        """
        self.answer = answer
        self.prefix = prefix
        self.delay = delay
        self._path = path
        _remove_stale_socket(path)
        # A guest's socket is open to all (0777), and so to every container that mounts it. This one is on a machine of
        # many users, and gives keys to every client: only its owner may connect, from the first moment on.
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(umask)
        self._inode = path.stat().st_ino

    def server_close(self) -> None:
        """Stop listening and remove the socket, unless another is in its place by now."""
        super().server_close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: SocketServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT
    wbufsize = -1  # head and body of an answer leave together

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a call whose arguments are in the body."""
        body = self._body()
        if body is not None:
            self._route(lambda: Arguments.from_json(body))

    def do_GET(self) -> None:
        """Answer a call whose arguments are in the target."""
        if self._body() is not None:
            self._route(lambda: Arguments.from_query(urlsplit(self.path).query))

    def do_HEAD(self) -> None:
        """Answer as a GET, without the body."""
        self.do_GET()

    def _other_method(self) -> None:
        if self._body() is not None:
            self._send_page(HTTPStatus.NOT_FOUND)

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _other_method  # noqa: N815

    def _body(self) -> bytes | None:
        """The request's body; None where it was too large, and the answer has been given."""
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()) or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # where the next request would begin is not known
            self._send_json(HTTPStatus.LENGTH_REQUIRED, {"error": "the simulator takes bodies with a Content-Length"})
            return None
        size = int(length)
        if size > MAX_BODY:
            self._discard(size)
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "failed to read data: payload too large"})
            return None
        return self.rfile.read(size)

    def _discard(self, size: int) -> None:
        # A client that still writes would see a broken connection in place of the answer.
        while size > 0 and (part := self.rfile.read(min(size, 1 << 16))):
            size -= len(part)

    def _route(self, read: Read) -> None:
        time.sleep(self.server.delay)
        # dstack's SDK for Rust sends the absolute form of a target (RFC 9112, 3.2.2), and no Host.
        path = unquote(urlsplit(self.path).path)
        if not path.startswith(self.server.prefix):
            self._send_page(HTTPStatus.NOT_FOUND)
            return
        method = path.removeprefix(self.server.prefix)
        if not method:
            self._send_page(HTTPStatus.UNPROCESSABLE_ENTITY)
        elif "/" in method:
            self._send_page(HTTPStatus.NOT_FOUND)
        else:
            self._call(method, read)

    def _call(self, method: str, read: Read) -> None:
        try:
            answer = self.server.answer(method, read)
        except RequestError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)}, indent=2)
        else:
            self._send_json(HTTPStatus.OK, answer)

    def _send_json(self, status: HTTPStatus, answer: JsonObject | None, indent: int | None = None) -> None:
        separators = None if indent else (",", ":")
        body = json.dumps(answer, indent=indent, separators=separators, ensure_ascii=False)
        self._send(status, "application/json", body.encode("utf-8", "backslashreplace"))

    def _send_page(self, status: HTTPStatus) -> None:
        title = f"{status.value}: {status.phrase}"
        page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        self._send(status, "text/html; charset=utf-8", page.encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _remove_stale_socket(path: Path) -> None:
    """Make room for a socket where one was left behind by a server that is no more.

    Raises:
        FileExistsError: Another process listens there, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is no socket. Give the socket another path or remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(f"{path} is in use by a running server. Stop that one or give the socket another path")
