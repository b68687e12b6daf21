"""The client of the soak test: HTTP/1.1 on asyncio's streams, which can violate the protocol."""

import asyncio
import hashlib
import json
import random
import socket
import struct
from dataclasses import dataclass
from typing import Any

MODEL = "soak"
TOKEN = "soak-token"


class UnexpectedError(Exception):
    """The proxy did not behave as expected."""


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: HTTP status.
        headers: By name in lower case.
        body: Transfer-decoded.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def request(method: str, path: str, body: bytes = b"", token: str | None = TOKEN, **headers: str) -> bytes:
    """A request's bytes. Underscores in the headers' names stand for hyphens; `Content_Length` may be wrong."""
    lines = [f"{method} {path} HTTP/1.1", "Host: proxy"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if method == "POST":
        headers = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Client:
    """One client: one connection at a time, kept alive where possible."""

    def __init__(self, port: int, side_port: int, seed: int) -> None:
        """Make a client that has no connection yet.

        Args:
            port: The proxy's port.
            side_port: The port of the proof pages.
            seed: The seed of the random choices.
        """
        self.port = port
        self.side_port = side_port
        self.random = random.Random(seed)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, opened if there is none."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self.reader, self.writer

    async def close(self) -> None:
        """Close the connection, if there is one, gracefully."""
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None

    async def reset(self) -> None:
        """Reset the connection: unread and unsent data are lost, and the proxy receives an RST."""
        if self.writer is not None:
            sock: socket.socket = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
            self.reader = self.writer = None

    async def send(self, data: bytes) -> None:
        """Send."""
        _, writer = await self.open()
        writer.write(data)
        await writer.drain()

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Read a response's status and headers."""
        reader, _ = await self.open()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return int(first.split(" ")[1]), headers

    async def read_piece(self) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        reader, _ = await self.open()
        size = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(size + 2))[:-2]

    async def read_answer(self) -> Answer:
        """Read a whole response."""
        status, headers = await self.read_head()
        reader, _ = await self.open()
        if "chunked" in headers.get("transfer-encoding", ""):
            pieces = []
            while piece := await self.read_piece():
                pieces.append(piece)
            body = b"".join(pieces)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            await self.close()
        return Answer(status, headers, body)

    async def ask(self, data: bytes, status: int = 200) -> Answer:
        """Send a request and read its response.

        Raises:
            UnexpectedError: The response has another status.
        """
        await self.send(data)
        answer = await self.read_answer()
        if answer.status != status:
            raise UnexpectedError(f"{answer.status} instead of {status}")
        return answer

    async def check_signature(self, asked: bytes, answer: Answer) -> None:
        """Fetch the signature of a response by its receipt id, and compare the signed hashes.

        Raises:
            UnexpectedError: There is none, or it is over other bytes.
        """
        receipt = answer.headers.get("x-receipt-id")
        if receipt is None:
            raise UnexpectedError("the answer has no receipt")
        signed = await self.ask(request("GET", f"/v1/signature/{receipt}"))
        text: Any = json.loads(signed.body)["text"]
        if text != f"{hashlib.sha256(asked).hexdigest()}:{hashlib.sha256(answer.body).hexdigest()}":
            raise UnexpectedError("the signature is of something else")
