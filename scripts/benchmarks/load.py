"""The load that `scripts/bench` puts on a proxy: chats in the form of openai's client, on keep-alive connections."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "bench"
TOKEN = "bench-token"
TIMEOUT = 60.0

_DONE = b"data: [DONE]\n\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """A response was not as expected."""


def request(*, stream: bool) -> bytes:
    """The bytes of a chat request, head and body."""
    message = {"role": "user", "content": "How much does it cost to be trusted?"}
    body = json.dumps({"model": MODEL, "messages": [message], "stream": stream}).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: proxy",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "User-Agent: OpenAI/Python 2.8.1",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """A client's connection.

    Attributes:
        events: Number of server-sent events received.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.events = 0

    async def list_models(self) -> None:
        """Request the models, whose response is not signed.

        Raises:
            LoadError: The response's status is not 200.
        """
        async with asyncio.timeout(TIMEOUT):
            self._writer.write(b"GET /v1/models HTTP/1.1\r\nHost: proxy\r\n\r\n")
            await self._read_json(await self._reader.readuntil(b"\r\n\r\n"))

    async def chat(self, *, stream: bool) -> tuple[float, bytes]:
        """Send one chat; return the seconds until the first byte of the response's body, and its head and body.

        Raises:
            LoadError: The response's status is not 200, or the response is incomplete.
        """
        async with asyncio.timeout(TIMEOUT):
            began = time.perf_counter()
            self._writer.write(request(stream=stream))
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, body = await (self._read_stream(head) if stream else self._read_json(head))
        return first - began, head + body

    async def _read_json(self, head: bytes) -> tuple[float, bytes]:
        _check_status(head)
        fields = {name.lower(): value for name, _, value in map(_split, head.split(b"\r\n")[1:])}
        body = await self._reader.readexactly(int(fields[b"content-length"]))
        json.loads(body)
        return time.perf_counter(), body

    async def _read_stream(self, head: bytes) -> tuple[float, bytes]:
        _check_status(head)
        pieces: list[bytes] = []
        first = 0.0
        while not pieces or not b"".join(pieces[-2:]).endswith(_LAST_CHUNK):
            piece = await self._reader.read(65536)
            if not piece:
                raise LoadError("the stream was cut")
            first = first or time.perf_counter()
            self.events += piece.count(b"data: ")
            pieces.append(piece)
        body = b"".join(pieces)
        if _DONE not in body:
            raise LoadError("the stream has no end")
        return first, body

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def _check_status(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise LoadError(head.partition(b"\r\n")[0].decode("latin-1"))


def _split(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")


@asynccontextmanager
async def connections(port: int, count: int) -> "AsyncIterator[list[Connection]]":
    """Open `count` connections to a port."""
    made: list[Connection] = []
    try:
        while len(made) < count:
            made.append(Connection(*await asyncio.open_connection("127.0.0.1", port)))
        yield made
    finally:
        for connection in made:
            connection.close()


async def chats(port: int, count: int, *, stream: bool, clients: int = 1) -> list[float]:
    """Send `count` chats, each client one at a time; return the seconds until their first bytes, in order."""
    async with connections(port, clients) as made:
        turns = iter(range(count))

        async def client(connection: Connection) -> list[float]:
            return [(await connection.chat(stream=stream))[0] for _ in _taken(turns)]

        found = await asyncio.gather(*map(client, made))
    return sorted(seconds for each in found for seconds in each)


def _taken(turns: Iterator[int]) -> Iterator[int]:
    yield from turns
