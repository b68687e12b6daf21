"""The short way of a streamed answer, past mitmproxy's layers.

An event of a token or two goes through six layers of generators, to come out as it went in. Once an answer streams,
most of what the upstream sends is whole chunks (RFC 9112, 7.1) of whole events that nobody has to look into. They are
hashed and go to the client as they came: the very bytes that the layers would write. Anything else takes the ordinary
way: the chunk in which a usage, the last event or the end of the body may be, one that has not come whole, one that is
written in another form. The layers take up where the short way has left off, as it leaves off only where the next chunk
begins.
"""

from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer

from addons.bodies.signing_filter import ResponseTap

_LONGEST_SIZE = 16
"""Digits of a chunk's size that are looked at: more is no size."""


class ChunkFastPath:
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

    def take(self, data: bytes) -> int:
        """Take what is to be written to the client as it is of what has come; return how many bytes that is."""
        reader = self._reader
        if reader._bytes_in_chunk or reader._bytes_to_discard or reader._reading_trailer or self._buffer:
            return 0
        chunks, ends = whole_chunks(data)
        taken = self._tap.take(chunks)
        return ends[taken - 1] if taken else 0


def whole_chunks(data: bytes) -> tuple[list[bytes], list[int]]:
    """The chunks at the beginning of `data` that are whole, and written as this proxy would write them.

    Returns:
        What is in each, and where it ends.
    """
    chunks: list[bytes] = []
    ends: list[int] = []
    at = 0
    while at < len(data):
        line_end = data.find(b"\r\n", at, at + _LONGEST_SIZE)
        line = data[at : max(line_end, at)]
        try:
            size = int(line, 16)
        except ValueError:
            break
        begin = line_end + 2
        end = begin + size
        # With leading zeros, extensions or whatever else int() forgives, the layers would write it otherwise. It takes
        # a sign, too: a size below nothing would lead back to what has been read, for ever.
        if size <= 0 or b"%x" % size != line or data[end : end + 2] != b"\r\n":
            break
        at = end + 2
        chunks.append(data[begin:end])
        ends.append(at)
    return chunks, ends
