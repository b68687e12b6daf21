"""The chunked transfer coding (RFC 9112, 7.1), sans-I/O: one decoder for the layers and for the fast path.

    BETWEEN CHUNKS ── size line ──> IN A CHUNK ── all of its data ──> AFTER ITS DATA ── CRLF ──> BETWEEN CHUNKS
          └─────────── last chunk ──> IN TRAILERS ── empty line ──> the end of the body

It is as strict as h11, with which the tests compare it: a size has 1 to 20 hexadecimal digits and no sign; extensions
are dropped, and so are trailers, which have to be valid fields nevertheless. The layers limit the length of lines, and
choose the buffer, which decides what ends a line.
"""

import re
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol

import h11

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\n]*)?[ \t]*\r\n")
_FIELD: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[ \t]*(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?[ \t]*")
_FOLD: Final = re.compile(rb"[ \t]+")


_LONGEST_SIZE_LINE: Final = 16
"""Most bytes of a size line, with its end, that `whole_chunks` reads: no chunk in one piece needs a longer one."""


class Buffer(Protocol):
    """Bytes that were received and not read yet."""

    def maybe_extract_at_most(self, count: int) -> bytearray | None:
        """Extract up to `count` bytes; None if there are none."""

    def maybe_extract_next_line(self) -> bytearray | None:
        """Extract the first line with its end; None if it is incomplete."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Extract the lines up to the next empty one, without their ends; None if that has not arrived."""


class ChunkDecoder:
    """Decodes one chunked body.

    Attributes:
        is_between_chunks: Whether the next byte is the first one of a chunk's size line.
    """

    def __init__(self) -> None:
        self.is_between_chunks = True
        self._missing = 0
        """Remaining bytes of the chunk's data."""
        self._end_of_chunk = b""
        """Remaining bytes after the chunk's data."""
        self._in_trailers = False

    def __call__(self, buffer: Buffer) -> h11.Data | h11.EndOfMessage | None:
        """Extract the next piece from the buffer; None if more bytes are needed.

        Raises:
            h11.RemoteProtocolError: The body violates the chunked coding. The message quotes nothing of it.
        """
        if self._in_trailers:
            return self._read_trailers(buffer)
        if not self._missing:
            if self._end_of_chunk and not self._read_end_of_chunk(buffer):
                return None
            line = buffer.maybe_extract_next_line()
            if line is None:
                return None
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise h11.RemoteProtocolError("a chunk's size line is malformed")
            self.is_between_chunks = False
            self._missing = int(match[1], 16)
            if not self._missing:
                self._in_trailers = True
                return self._read_trailers(buffer)
        data = buffer.maybe_extract_at_most(self._missing)
        if data is None:
            return None
        self._missing -= len(data)
        if not self._missing:
            self._end_of_chunk = b"\r\n"
        return h11.Data(data=bytes(data))

    def read_eof(self) -> NoReturn:
        """Note that the connection has ended before the body.

        Raises:
            h11.RemoteProtocolError: Always.
        """
        raise h11.RemoteProtocolError("the connection ended in the middle of a chunked body")

    def whole_chunks(self, data: bytes) -> tuple[Sequence[bytes], Sequence[int]]:
        """The whole chunks at the beginning of `data` that are encoded as this proxy would encode them.

        The state of the decoder does not change. The caller may skip these chunks, or pass them through the buffer,
        which has to be empty now.

        Args:
            data: The next received bytes.

        Returns:
            The data of each chunk, and the offset after it. Empty in the middle of a chunk; the lists end before the
            first chunk that is incomplete or the last one, or has leading zeros, capitals or extensions.
        """
        chunks: list[bytes] = []
        ends: list[int] = []
        if not self.is_between_chunks:
            return chunks, ends
        at = 0
        while (line_end := data.find(b"\r\n", at, at + _LONGEST_SIZE_LINE)) > at:
            line = data[at:line_end]
            try:
                size = int(line, 16)
            except ValueError:
                break
            begin = line_end + 2
            end = begin + size
            at = end + 2
            # int() also accepts signs, among others: a negative size would lead back to bytes that were read already.
            if size <= 0 or b"%x" % size != line or data[end:at] != b"\r\n":
                break
            chunks.append(data[begin:end])
            ends.append(at)
        return chunks, ends

    def _read_end_of_chunk(self, buffer: Buffer) -> bool:
        data = buffer.maybe_extract_at_most(len(self._end_of_chunk))
        if data is None:
            return False
        if not self._end_of_chunk.startswith(data):
            raise h11.RemoteProtocolError("a chunk's data does not end with CRLF")
        self._end_of_chunk = self._end_of_chunk[len(data) :]
        self.is_between_chunks = not self._end_of_chunk
        return self.is_between_chunks

    @staticmethod
    def _read_trailers(buffer: Buffer) -> h11.EndOfMessage | None:
        lines = buffer.maybe_extract_lines()
        if lines is None:
            return None
        if not all(_FIELD.fullmatch(field) for field in _unfolded(lines)):
            raise h11.RemoteProtocolError("a trailer is malformed")
        return h11.EndOfMessage()


def _unfolded(lines: Sequence[bytearray]) -> list[bytes]:
    """The fields in the lines; a line that begins with white space continues the one before (RFC 9112, 5.2)."""
    fields: list[list[bytes]] = []
    for line in lines:
        fold = _FOLD.match(line)
        if fold is not None and fields:
            fields[-1].append(bytes(line[fold.end() :]))
        else:  # a continuation without a line before it is not a valid field either
            fields.append([bytes(line)])
    return [b" ".join(parts) for parts in fields]
