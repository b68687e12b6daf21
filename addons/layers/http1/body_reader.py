"""The readers of HTTP/1 bodies; those of requests are strict about line ends, and join small chunks."""

from typing import cast

import h11
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy.layers.http import _http1 as mitmproxy_http1
from mitmproxy.proxy.layers.http._http1 import TBodyReader

from addons.layers.http1.chunked import ChunkDecoder
from addons.messages.request_head import has_bare_lf


def make_body_reader(size: int | None) -> TBodyReader:
    """Make the reader of one body.

    Args:
        size: Bytes of the body; -1 for a body that ends with its connection, None for a chunked one.
    """
    # A decoder has the interface of mitmproxy's readers.
    return cast("TBodyReader", ChunkDecoder()) if size is None else mitmproxy_http1.make_body_reader(size)


class CrlfBuffer(ReceiveBuffer):
    """A buffer in which only CRLF ends the lines of a chunked body; the lines of heads are checked separately."""

    def maybe_extract_next_line(self) -> bytearray | None:
        """Extract the first line, if it is complete.

        Raises:
            h11.RemoteProtocolError: The line ends with LF alone.
        """
        line = super().maybe_extract_next_line()
        if line is None and b"\n" in bytes(self):
            raise h11.RemoteProtocolError("a line ends with LF alone")
        return line

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Extract the lines up to the next empty one.

        Raises:
            h11.RemoteProtocolError: One of the lines ends with LF alone.
        """
        data = bytes(self)
        end = 2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 4
        if has_bare_lf(data if end == 3 else data[:end]):  # 3: there is no empty line yet
            raise h11.RemoteProtocolError("a line ends with LF alone")
        return super().maybe_extract_lines()


class RequestBodyReader:
    """Reads a request body.

    Trailers are dropped: mitmproxy fails on them, and requests to APIs need none. Chunks that arrive together become
    one piece: a piece costs the same at any size, and a client may send chunks of one byte.
    """

    def __init__(self, reader: TBodyReader) -> None:
        self._reader = reader
        self._ended = False

    def __call__(self, buffer: ReceiveBuffer) -> h11.Event | None:
        """Read the part of the body that is in the buffer.

        Raises:
            h11.ProtocolError: The body is malformed.
        """
        pieces = []
        while not self._ended:
            event = self._reader(buffer)
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._ended = True
            else:
                break
        if pieces:
            return h11.Data(data=b"".join(pieces))
        return h11.EndOfMessage() if self._ended else None

    def read_eof(self) -> h11.Event | None:
        """Note that the connection has ended."""
        event = self._reader.read_eof()
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event
