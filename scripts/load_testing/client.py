"""The client of `scripts/loadtest`: HTTP/1.1 with h11 on asyncio's streams, with the time of each piece."""

import asyncio
import ssl
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from attest_web.verify.primitives.http_client import MAX_BYTES, Origin

_PIECE = 64 * 1024


class TransportError(Exception):
    """There was no complete response. The message is one of a few fixed kinds, for counting."""


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: HTTP status.
        headers: By lower-case name.
        body: After transfer-decoding.
        asked: When the request was sent, in seconds of `time.perf_counter`.
        arrivals: The end offset in the body of each piece, and when it was received.
        ended: When the last byte was received.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked: float
    arrivals: tuple[tuple[int, float], ...]
    ended: float

    def when(self, position: int) -> float:
        """When the first `position` bytes of the body had been received."""
        at = bisect_left(self.arrivals, position, key=lambda arrival: arrival[0])
        return self.arrivals[at][1] if at < len(self.arrivals) else self.ended


class Connection:
    """One connection at a time, opened on demand and kept alive if possible."""

    def __init__(self, origin: Origin, token: str, tls: ssl.SSLContext, timeout: float) -> None:
        """Prepare; no connection is opened yet.

        Args:
            origin: The server's address.
            token: Bearer token to send.
            tls: How to check the server's certificate over TLS.
            timeout: Seconds that a request may take, from connecting to the last byte.
        """
        self._origin = origin
        self._tls = tls if origin.tls else None
        self._timeout = timeout
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        self._head = [
            ("Host", f"{host}:{origin.port}"),
            ("Authorization", f"Bearer {token}"),
            ("Accept-Encoding", "identity"),
        ]
        self._state = h11.Connection(h11.CLIENT)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request and read the whole response, whatever its status.

        Args:
            method: `GET` or `POST`.
            path: Path and query, quoted; appended to the path of the origin.
            body: JSON to send, if any.

        Raises:
            TransportError: There was no complete response.
        """
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await self._connected()
                return await self._exchange(reader, writer, method, path, body)
        except TimeoutError:
            raise TransportError("timed out") from None
        except ssl.SSLCertVerificationError:
            raise TransportError("certificate not trusted") from None
        except OSError:
            raise TransportError("cannot connect" if self._streams is None else "connection broke off") from None
        except h11.RemoteProtocolError:
            raise TransportError("connection broke off" if self._ended else "not HTTP") from None
        finally:
            if self._state.our_state is not h11.IDLE:  # broken off by either side, or not to be used again
                self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    @property
    def _ended(self) -> bool:
        return self._streams is not None and self._streams[0].at_eof()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._ended:  # the server may close an idle connection
            self.close()
        if self._streams is None:
            self._state = h11.Connection(h11.CLIENT)
            self._streams = await asyncio.open_connection(self._origin.host, self._origin.port, ssl=self._tls)
        return self._streams

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes | None
    ) -> Answer:
        head = list(self._head)
        if body is not None:
            head += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        sent = self._state.send(h11.Request(method=method, target=self._origin.path + path, headers=head)) or b""
        sent += (self._state.send(h11.Data(body or b"")) or b"") + (self._state.send(h11.EndOfMessage()) or b"")
        asked = now = time.perf_counter()
        writer.write(sent)
        await writer.drain()
        response: h11.Response | None = None
        received = bytearray()
        arrivals: list[tuple[int, float]] = []
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(_PIECE)
                now = time.perf_counter()
                self._state.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                received += event.data
                arrivals.append((len(received), now))
                if len(received) > MAX_BYTES:
                    raise TransportError("too long an answer")
            elif isinstance(event, h11.EndOfMessage):
                break
        assert response is not None  # h11 reports no end of a message without its start
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status_code, headers, bytes(received), asked, tuple(arrivals), now)
