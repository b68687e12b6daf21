"""Parses `multipart/form-data` (RFC 7578) as a stream: fields are kept, files are counted, hashed and discarded."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message

from scripts.fake_vllm.errors import BadRequestError

MAX_HEADER = 16 * 1024
"""Largest header of a part, and largest value of a field, in bytes."""


@dataclass
class File:
    """A file that was uploaded, without its content.

    Attributes:
        name: As the client named it.
        size: In bytes.
        sha256: Of the content.
    """

    name: str
    size: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        self.sha256.update(piece)

    def __str__(self) -> str:
        return f"{self.size} bytes, SHA-256 {self.sha256.hexdigest()}"


@dataclass
class Form:
    """The content of a form.

    Attributes:
        fields: Values by name, the last one of each.
        files: The files in the order of the form.
    """

    fields: dict[str, str]
    files: list[File]


def read_form(content_type: str, pieces: Iterable[bytes]) -> Form:
    """Read a form from the pieces of a body.

    Raises:
        BadRequestError: It is no form, or one of its fields is too large.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise BadRequestError("the body is not multipart/form-data")
    form = Form({}, [])
    parts = _Parts(b"\r\n--" + boundary.encode(), iter(pieces))
    while (head := parts.next_head()) is not None:
        name = re.search(r'[ ;]name="([^"]*)"', head)
        filename = re.search(r'filename="([^"]*)"', head)
        if filename is not None:
            form.files.append(File(filename[1]))
            for piece in parts.content():
                form.files[-1].feed(piece)
        elif name is not None:
            value = b""
            for piece in parts.content():
                value += piece
                if len(value) > MAX_HEADER:
                    raise BadRequestError(f"the field {name[1]} is too large")
            form.fields[name[1]] = value.decode(errors="replace")
        else:
            raise BadRequestError("a part of the form has no name")
    return form


class _Parts:
    """Cuts a body at its delimiters, holding no more of it than a piece and a delimiter."""

    def __init__(self, delimiter: bytes, pieces: Iterator[bytes]) -> None:
        self._delimiter = delimiter
        self._pieces = pieces
        self._buffer = b"\r\n"  # so that the first delimiter is like the others
        for _ in self.content():  # the preamble
            pass

    def next_head(self) -> str | None:
        """The next part's header; None behind the last one."""
        while b"\r\n\r\n" not in self._buffer:
            if self._buffer.startswith(b"--"):
                for _ in self._pieces:  # the epilogue
                    pass
                return None
            if len(self._buffer) > MAX_HEADER:
                raise BadRequestError("the header of a part is too large")
            self._buffer += self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode(errors="replace")

    def content(self) -> Iterator[bytes]:
        """The content of the part at hand, up to its delimiter."""
        while (at := self._buffer.find(self._delimiter)) < 0:
            safe = len(self._buffer) - len(self._delimiter)
            if safe > 0:
                yield self._buffer[:safe]
                self._buffer = self._buffer[safe:]
            self._buffer += self._more()
        yield self._buffer[:at]
        self._buffer = self._buffer[at + len(self._delimiter) :]

    def _more(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise BadRequestError("the form ends in the middle of a part")
        return piece
