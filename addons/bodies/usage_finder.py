"""Finds the token usage in the bytes of a JSON response as they pass."""

import json
import re

from addons.exchange.usage import Usage

MAX_USAGE = 4096
"""Most bytes of a `usage` object that are read: it has about a dozen numbers."""

_KEY = b'"usage"'
_MEMBER = re.compile(rb'"usage"[ \t\r\n]{0,8}:')
_LONGEST_MEMBER = len(_KEY) + 9


class UsageFinder:
    """Finds the last `usage` of a JSON response, without parsing the rest.

    It does not match within a string, where its quotation marks would be escaped. It may match a member of an inner
    object; no server is known to send such a member.
    """

    def __init__(self) -> None:
        self._found: bytearray | None = None
        self._end = b""

    def feed(self, piece: bytes) -> None:
        """Search the next piece of the body."""
        searched = self._end + piece
        at = max((match.end() for match in _MEMBER.finditer(searched)), default=0) if _KEY in searched else 0
        if at:
            self._found = bytearray(searched[at : at + MAX_USAGE])
        elif self._found is not None and len(self._found) < MAX_USAGE:
            self._found += piece[: MAX_USAGE - len(self._found)]
        self._end = searched[1 - _LONGEST_MEMBER :]

    def usage(self) -> Usage | None:
        """The usage found, when the whole body has passed; None if there is none."""
        if self._found is None:
            return None
        text = self._found.decode("utf-8", "replace").lstrip()
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return None
        return Usage.read(found) if isinstance(found, dict) else None
