"""How many tokens an answer has cost, by what it says itself."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_USAGE = 4096
"""Bytes of a `usage` object that are looked at: it has a dozen numbers in it."""

MAX_TOKENS = 10**9
"""More is no number of tokens."""

_KEY = b'"usage"'
_MEMBER = re.compile(rb'"usage"[ \t\r\n]{0,8}:')
_LONGEST_MEMBER = len(_KEY) + 9


class Usage(NamedTuple):
    """Tokens in and out; None where it is not told."""

    input: int | None
    output: int | None

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> "Usage | None":
        """Read the `usage` of an answer: OpenAI's chat and completions, or Responses, or Anthropic's Messages."""
        read = cls(
            _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
            _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        )
        return None if read == (None, None) else read

    def filled_by(self, before: "Usage | None") -> "Usage":
        """These, and where one is not told, what was told before."""
        if before is None or None not in self:
            return self
        return Usage(*(now if now is not None else was for now, was in zip(self, before, strict=True)))


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


class UsageFinder:
    """Finds the last `usage` of a JSON answer that passes, without parsing the rest.

    Within a string, its quotation marks would be escaped. It may be one of another object than the outermost; no
    server is known to have such.
    """

    def __init__(self) -> None:
        self._found: bytearray | None = None
        self._end = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        searched = self._end + piece
        at = max((match.end() for match in _MEMBER.finditer(searched)), default=0) if _KEY in searched else 0
        if at:
            self._found = bytearray(searched[at : at + MAX_USAGE])
        elif self._found is not None and len(self._found) < MAX_USAGE:
            self._found += piece[: MAX_USAGE - len(self._found)]
        self._end = searched[1 - _LONGEST_MEMBER :]

    def usage(self) -> Usage | None:
        """What has been found, when all has passed."""
        if self._found is None:
            return None
        text = self._found.decode("utf-8", "replace").lstrip()
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return None
        return Usage.read(found) if isinstance(found, dict) else None
