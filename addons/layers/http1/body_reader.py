"""The readers of HTTP/1 bodies; requests are held to what every server reads alike, in pieces of a decent size."""

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
        size: Bytes of the body; -1 for one that the end of the connection ends, and None for one in chunks.
    """
    # To mitmproxy, a reader is what can be called like one.
    return cast("TBodyReader", ChunkDecoder()) if size is None else mitmproxy_http1.make_body_reader(size)


class CrlfBuffer(ReceiveBuffer):
    """A buffer in which only CRLF ends the lines of a chunked body; those of heads are looked at elsewhere."""

    def maybe_extract_next_line(self) -> bytearray | None:
        """Take out the first line, if it is complete.

        Raises:
            h11.RemoteProtocolError: It ends with LF alone.
        """
        line = super().maybe_extract_next_line()
        if line is None and b"\n" in bytes(self):
            raise h11.RemoteProtocolError("a line ends with LF alone")
        return line

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Take out the lines up to the next empty one.

        Raises:
            h11.RemoteProtocolError: A line among them ends with LF alone.
        """
        data = bytes(self)
        end = 2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 4
        if has_bare_lf(data if end == 3 else data[:end]):  # 3: there is no empty line yet
            raise h11.RemoteProtocolError("a line ends with LF alone")
        return super().maybe_extract_lines()


class RequestBodyReader:
    """Reads a request body.

    Trailers are dropped: mitmproxy fails on them, and no request of an API has any that matter. Chunks that have come
    together are one piece: a piece costs the same at any size, and a client may send them a byte each.
    """

    def __init__(self, reader: TBodyReader) -> None:
        self._reader = reader
        self._ended = False

    def __call__(self, buffer: ReceiveBuffer) -> h11.Event | None:
        """Read what the buffer holds of the body.

        Raises:
            h11.ProtocolError: It is none.
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
        """Take note that the connection has ended."""
        event = self._reader.read_eof()
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event
