"""An upstream that sends exactly the bytes of a test's script, on raw sockets."""

import contextlib
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.limits import limit


@dataclass(frozen=True)
class Received:
    """A request as received, with its body transfer-decoded."""

    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


class Peer:
    """One connection to the upstream, for the script.

    Attributes:
        number: 1 for the first connection that was made, and so on.
        raw: All received bytes, except for bodies that were skipped.
    """

    def __init__(self, sock: socket.socket, number: int, requests: "queue.Queue[Received]") -> None:
        self.number = number
        self.raw = b""
        self._sock = sock
        self._sock.settimeout(limit())
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._requests = requests

    def read_request(self) -> Received | None:
        """Read the next request; None if the connection ends first, from either side."""
        received = self.read_head()
        if received is None:
            return None
        received = Received(received.head, self.read_body(received))
        self._requests.put(received)
        return received

    def read_head(self) -> Received | None:
        """Read the head of the next request, and not its body; None if the connection ends first."""
        while b"\r\n\r\n" not in self._buffer:
            if self._sock.fileno() < 0:
                return None
            if not (data := self._receive()):
                return None
            self._buffer += data
        raw_head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return Received(raw_head.decode("latin-1"), b"")

    def read_body(self, head: Received) -> bytes:
        """Read the body that a head announces, transfer-decoded."""
        if head.header("transfer-encoding"):
            return self._read_chunks()
        return self.read_exactly(int(head.header("content-length") or 0))

    def skip_body(self, received: Received) -> None:
        """Read and discard the body that belongs to a head, which has to announce its length."""
        left = int(received.header("content-length") or 0) - len(self._buffer)
        self._buffer = b""
        while left > 0:
            data = self._sock.recv(65536)
            assert data
            left -= len(data)

    def _receive(self) -> bytes:
        data = self._sock.recv(65536)
        self.raw += data
        return data

    def read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._receive()
            assert data
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _read_chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                data = self._receive()
                assert data
                self._buffer += data
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            chunk = self.read_exactly(int(size, 16) + 2)[:-2]
            if not chunk:
                return body
            body += chunk

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Use TLS from now on."""
        self._sock = context.wrap_socket(self._sock, server_side=True)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_for_ever(self, data: bytes) -> None:
        """Send the same bytes repeatedly, until the other side closes the connection."""
        with contextlib.suppress(ConnectionError):
            while True:
                self._sock.sendall(data)

    def finish(self) -> None:
        """Shut down sending, and read until the other side closes the connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self.wait_closed()

    def wait_closed(self) -> None:
        """Wait until the other side closes the connection."""
        try:
            while self._sock.recv(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def close_unread(self) -> None:
        """Close with unread bytes, so that the kernel sends an RST after the sent bytes (RFC 1122, 4.2.2.13)."""
        self._sock.recv(1, socket.MSG_PEEK)
        self._sock.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class ScriptedUpstream:
    """Runs a script for every connection that is made to it, each in a thread of its own.

    Attributes:
        requests: The requests that the scripts have read, in order.
        failures: The errors of scripts; checked at the end.
    """

    def __init__(self, script: Callable[[Peer], None], host: str = "127.0.0.1") -> None:
        self.requests: queue.Queue[Received] = queue.Queue()
        self.failures: list[BaseException] = []
        self._script = script
        self._host = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=100)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(limit())
        for thread in self._threads:
            thread.join(limit())
        if error is None and self.failures:
            raise self.failures[0]

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        peer = Peer(sock, number, self.requests)
        try:
            self._script(peer)
        except BaseException as error:
            self.failures.append(error)
        finally:
            peer.close()


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def json_response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def events(chat_id: str, *contents: str) -> list[bytes]:
    """The events of a streamed chat, the last one included."""
    made = [
        b'data: {"id":"%s","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (chat_id.encode(), content.encode())
        for content in contents
    ]
    return [*made, b"data: [DONE]\n\n"]


def answering(respond: Callable[[Received], bytes]) -> Callable[[Peer], None]:
    """A script that responds to every request on a connection with the result of `respond`."""

    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            peer.send(respond(received))

    return script
