"""The short way of a streamed answer, past mitmproxy's layers.

An event of a token or two goes through six layers of generators, to come out as it went in. Once an answer streams,
most of what the upstream sends is whole chunks (RFC 9112, 7.1) of whole events that nobody has to look into. Such a
piece is hashed and goes to the client as it came: the very bytes that the layers would write. Anything else takes the
ordinary way: the piece in which a usage, the last event or the end of the body may be, a chunk that has not come whole,
one that is written in another form. The layers take up where the short way has left off, as it leaves off only where
the next chunk begins.
"""

from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer

from addons.response_tap import ResponseTap

_LONGEST_SIZE = 16
"""Digits of a chunk's size that are looked at: more is no size."""


class ShortWay:
    """Takes pieces of one body, as long as nothing else has to."""

    def __init__(self, buffer: ReceiveBuffer, reader: ChunkedReader, tap: ResponseTap) -> None:
        """Make it for a body that the layers have begun to read.

        Args:
            buffer: What the layers have received and not read yet.
            reader: How they read.
            tap: What the body streams through.
        """
        self._buffer = buffer
        self._reader = reader
        self._tap = tap

    def takes(self, data: bytes) -> bool:
        """Whether what has come from the upstream is to be written to the client, as it is; if so, it is taken."""
        reader = self._reader
        if reader._bytes_in_chunk or reader._bytes_to_discard or reader._reading_trailer or self._buffer:
            return False
        chunks = whole_chunks(data)
        return chunks is not None and self._tap.takes(chunks)


def whole_chunks(data: bytes) -> list[bytes] | None:
    """What is in the chunks of a body.

    Returns:
        Their contents; None where `data` is not whole chunks and no more, or not as this proxy would write them.
    """
    chunks = []
    at = 0
    while at < len(data):
        line_end = data.find(b"\r\n", at, at + _LONGEST_SIZE)
        line = data[at : max(line_end, at)]
        try:
            size = int(line, 16)
        except ValueError:
            return None
        begin = line_end + 2
        end = begin + size
        # With leading zeros, extensions or whatever else int() forgives, the layers would write it otherwise.
        if not size or b"%x" % size != line or data[end : end + 2] != b"\r\n":
            return None
        chunks.append(data[begin:end])
        at = end + 2
    return chunks
