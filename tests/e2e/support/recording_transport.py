"""httpx transports that record the bytes of the last exchange, as they were on the wire."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx2


@dataclass
class Wire:
    """Bodies and response headers of the last exchange."""

    request: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)

    @property
    def response(self) -> bytes:
        return b"".join(self.pieces)


class _Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, inner: object, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._inner, httpx2.SyncByteStream)
        for piece in self._inner:
            self._wire.pieces.append(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._inner, httpx2.AsyncByteStream)
        async for piece in self._inner:
            self._wire.pieces.append(piece)
            yield piece

    def close(self) -> None:
        assert isinstance(self._inner, httpx2.SyncByteStream)
        self._inner.close()

    async def aclose(self) -> None:
        assert isinstance(self._inner, httpx2.AsyncByteStream)
        await self._inner.aclose()


class RecordingTransport(httpx2.HTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._wire.request = request.read()
        self._wire.pieces.clear()
        response = super().handle_request(request)
        self._wire.headers = response.headers
        response.stream = _Stream(response.stream, self._wire)
        return response


class AsyncRecordingTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._wire.request = await request.aread()
        self._wire.pieces.clear()
        response = await super().handle_async_request(request)
        self._wire.headers = response.headers
        response.stream = _Stream(response.stream, self._wire)
        return response
