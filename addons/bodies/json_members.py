"""Finds some members of a JSON object while its text passes, in bounded memory (RFC 8259).

A container that cannot hold a wanted member is skipped as a whole if it has arrived completely, and otherwise by its
brackets; strings in it are skipped by their quotation marks. Text that is not JSON gives no members and no error.
"""

import json
import re
from collections.abc import Collection

from attest_web.response_ids import MAX_ID

type Path = tuple[str, ...]
"""The names that lead from the outermost object to a member."""

MAX_STRING = 6 * MAX_ID
"""Bytes of a name or a value that are kept, as written: every character of an id may be escaped as `\\uXXXX`."""

MAX_STEPS = 5_000
"""Marks and strings that are read before the search stops, plus one for every `BYTES_OF_STEP` bytes received.
They take about 5 ms. An object of many thousand others needs far fewer, as containers are skipped as a whole."""

BYTES_OF_STEP = 64

_NESTING = 8
"""Levels of containers that are skipped in one step."""

_NEXT_MARK = re.compile(rb'["{}\[\]:,]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def _container(levels: int) -> bytes:
    inner = rb"|" + _container(levels - 1) if levels > 1 else b""
    return rb"[\[{](?:" + _SKIPPED_ALONE + inner + rb")*+[\]}]"


_SKIPPED_ALONE = rb'[^"\[\]{}]++|"' + _IN_STRING.pattern + rb'"'
_SKIPPED = re.compile(rb"(?:" + _SKIPPED_ALONE + rb"|" + _container(_NESTING) + rb")*+", re.DOTALL)


class JsonMembers:
    """Finds string members by their paths.

    Attributes:
        found: The first string found at each path.
        done: Whether the search is over.
    """

    def __init__(self, paths: Collection[Path]) -> None:
        """Begin.

        Args:
            paths: Paths of the wanted members.
        """
        self._paths = frozenset(paths)
        self.found: dict[Path, str] = {}
        self.done = False
        self._left = MAX_STEPS * BYTES_OF_STEP  # of the search, in bytes
        # Names of the open members whose objects can contain a wanted member.
        self._inside: Path = ()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._is_name = False
        self._name: str | None = None
        # The current string so far, still escaped; None if it is not wanted.
        self._string: bytearray | None = None

    def feed(self, piece: bytes) -> None:
        """Search the next piece of the text."""
        self._left += len(piece)
        at = 0
        while not self.done and at < len(piece):
            at = self._read_string(piece, at) if self._in_string else self._read_structure(piece, at)
            self._left -= BYTES_OF_STEP
            self.done = self.done or self._left <= 0

    def _read_string(self, piece: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            self._keep(piece[at : at + 1])
            return at + 1
        end = _IN_STRING.match(piece, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        self._keep(piece[at:end])
        if end == len(piece):
            return end
        if piece[end : end + 1] == b"\\":  # the last byte
            self._escaped = True
            self._keep(b"\\")
        else:
            self._in_string = False
            self._take_string()
        return end + 1

    def _keep(self, part: bytes) -> None:
        if self._string is not None:
            self._string += part
            if len(self._string) > MAX_STRING:
                self._string = None

    def _take_string(self) -> None:
        text, self._string = self._string, None
        if self._depth != len(self._inside) + 1:
            return
        value: str | None = None
        if text is not None:
            try:
                value = json.loads(b'"%s"' % text)
            except ValueError:  # not JSON after all
                value = None
        if self._is_name:
            self._name = value
        elif value is not None and self._name is not None:
            path = (*self._inside, self._name)
            if path in self._paths and path not in self.found:
                self.found[path] = value
                self.done = len(self.found) == len(self._paths)

    def _read_structure(self, piece: bytes, at: int) -> int:
        looks = self._depth == len(self._inside) + 1
        if self._depth and not looks:
            at = _SKIPPED.match(piece, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        found = _NEXT_MARK.search(piece, at)
        if found is None:
            return len(piece)
        mark = found.group()
        if mark == b'"':
            self._in_string = True
            self._string = bytearray() if looks and (self._is_name or self._is_wanted()) else None
            self.done = self._depth == 0  # a string on its own, not an object
        elif mark in b"{[":
            self._open(is_object=mark == b"{", looks=looks)
        elif mark in b"}]":
            self._close()
        elif mark == b":":
            self._is_name = False
        else:
            self._is_name = True
            self._name = None
        return found.end()

    def _is_wanted(self) -> bool:
        return self._name is not None and (*self._inside, self._name) in self._paths

    def _open(self, *, is_object: bool, looks: bool) -> None:
        if self._depth == 0:
            self.done = not is_object
            self._is_name = True
        elif looks and is_object and self._name is not None and not self._is_name:
            path = (*self._inside, self._name)
            if any(len(wanted) > len(path) and wanted[: len(path)] == path for wanted in self._paths):
                self._inside = path
                self._is_name, self._name = True, None
        self._depth += 1

    def _close(self) -> None:
        self._depth -= 1
        self.done = self.done or self._depth <= 0
        if self._inside and self._depth == len(self._inside):
            self._inside = self._inside[:-1]
            self._is_name, self._name = False, None
