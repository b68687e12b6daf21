"""Removes empty `tool_calls` from the messages of a chat request, while its body passes.

vLLM fails on `"tool_calls": []` in a message, and clients send back the messages that they received. The member is cut
out of the bytes, with the comma that separates it from its neighbour; all other bytes stay as they are. Where the
length of the body was announced, spaces replace it: JSON allows them between any two tokens (RFC 8259, 2).

Sans-I/O. A body arrives in pieces, cut anywhere, and is never parsed as a whole. Regular expressions without
backtracking skip everything else, so that a piece takes time in proportion to its size, whatever is in it:

    START     before the object     --{-->          OBJECT
    OBJECT    in the object         --"messages":[  MESSAGES    --}--> END
    MESSAGES  in that array         --{-->          MESSAGE     --]--> OBJECT
    MESSAGE   in a message          --}-->          MESSAGES
    END       after all of it

In each state, a string or a container that the expressions cannot skip as a whole, because it continues in the next
piece or is nested deeply, is scanned separately. Text that is not JSON passes in one of the states; the upstream
rejects it.
"""

import enum
import re
from collections.abc import Callable
from typing import Final

MAX_MEMBER: Final = 16 * 1024
"""Bytes of a member, including its white space, above which it is not treated as an empty `tool_calls`: it would have
to be buffered until its end arrives. JSON writers produce about twenty bytes."""

_LONGEST_KEY = 60
"""Bytes of the longest key that is searched for: ten characters, each written as \\uXXXX."""
_NESTING = 8
"""Levels of containers that are skipped in one step."""
_DEEP = 64
"""Number of open containers above which brackets are only counted, regardless of their order."""
_MOST_AT_ONCE = 4096
"""Bytes whose brackets are counted in one step."""

_BLANKS = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^"\[\]{}]++'


def _key(name: str) -> bytes:
    """Matches a key from its first character to its closing quote, however it is escaped."""
    return b"".join(rb"(?:%c|\\u00(?i:%02x))" % (ord(letter), ord(letter)) for letter in name) + b'"'


def _container(levels: int) -> bytes:
    inner = rb"|" + _container(levels - 1) if levels > 1 else b""
    return rb"[\[{](?:" + _PLAIN + rb"|" + _STRING + inner + rb")*+[\]}]"


def _member(name: str, value: bytes, begun_value: bytes) -> tuple[bytes, bytes]:
    """Two patterns: the member that is searched for, and a beginning of it at the end of the data."""
    key = _key(name)
    found = rb'"' + key + _BLANKS + rb":" + _BLANKS + value
    ends = rb"\Z|:" + _BLANKS + rb"(?:\Z|" + begun_value + rb")"
    begun = rb'"(?:[^"]{0,%d}\Z|' % _LONGEST_KEY + key + _BLANKS + rb"(?:" + ends + rb"))"
    return found, begun


_MESSAGES_FOUND, _MESSAGES_BEGUN = _member("messages", rb"\[", rb"(?!)")
_EMPTY_FOUND, _EMPTY_BEGUN = _member("tool_calls", rb"\[" + _BLANKS + rb"\]", rb"\[" + _BLANKS + rb"\Z")
_MESSAGES_AHEAD = rb"(?:" + _MESSAGES_FOUND + rb"|" + _MESSAGES_BEGUN + rb")"
_EMPTY_AHEAD = rb"(?:" + _EMPTY_FOUND + rb"|" + _EMPTY_BEGUN + rb")"
_CLEAN_OBJECT = (
    rb"\{(?:" + _PLAIN + rb"|(?!" + _EMPTY_AHEAD + rb")" + _STRING + rb"|" + _container(_NESTING) + rb")*+\}"
)
_ARRAY = rb"(?=\[)" + _container(_NESTING)


type _Match = Callable[[bytes, int], re.Match[bytes] | None]


def _passing(*alternatives: bytes) -> _Match:
    return re.compile(rb"(?:" + rb"|".join(alternatives) + rb")*+", re.DOTALL).match


class _State(enum.IntEnum):
    """Where in the body the next byte stands."""

    START = enum.auto()
    OBJECT = enum.auto()
    MESSAGES = enum.auto()
    MESSAGE = enum.auto()
    END = enum.auto()


_PASSED = {
    _State.START: _passing(_PLAIN),
    _State.OBJECT: _passing(_PLAIN, rb"(?!" + _MESSAGES_AHEAD + rb")" + _STRING, _container(_NESTING)),
    _State.MESSAGES: _passing(_PLAIN, _STRING, _ARRAY, _CLEAN_OBJECT),
    _State.MESSAGE: _passing(
        rb'[^"\[\]{},]++',
        rb",(?!" + _BLANKS + rb"(?:\Z|" + _EMPTY_AHEAD + rb"))",
        rb"(?!" + _EMPTY_AHEAD + rb")" + _STRING,
        _container(_NESTING),
    ),
}
"""What is skipped in a state: all but what leads to another state, what is searched for, and what is incomplete."""

_CLOSED_TO = {_State.OBJECT: _State.END, _State.MESSAGES: _State.OBJECT, _State.MESSAGE: _State.MESSAGES}
_MESSAGES_ARRAY = re.compile(_MESSAGES_FOUND).match
_EMPTY = re.compile(rb",?" + _BLANKS + _EMPTY_FOUND).match
_BEGUN = {
    _State.OBJECT: re.compile(_MESSAGES_BEGUN).match,
    _State.MESSAGE: re.compile(rb",?" + _BLANKS + rb"(?:\Z|" + _EMPTY_BEGUN + rb")").match,
}
_WHITE = re.compile(_BLANKS)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_WHOLE_STRING = re.compile(_STRING, re.DOTALL)
_NESTED = re.compile(
    rb"(?:"
    + _PLAIN
    + rb"|"
    + _STRING
    + rb"|"
    + _container(1)
    + rb')*+(?:(?P<opened>[\[{]++)|(?P<closed>[\]}]++)|(?P<begun_string>")|\Z)',
    re.DOTALL,
)


class EmptyToolCallsFilter:
    """Removes the direct members `"tool_calls": []` from the objects in the top-level array `messages`.

    It removes every such member, also where a message has several, and in every `messages`. Keys may be escaped.

    Attributes:
        changes_length: Whether the forwarded body may be shorter than the received one.
    """

    def __init__(self, length: int | None = None, *, keep_length: bool) -> None:
        """Begin before the first byte.

        Args:
            length: Bytes of the whole body, if announced.
            keep_length: Whether spaces replace what is removed, so that the length of the body does not change.
        """
        self._length = length
        self._keep_length = keep_length
        self.changes_length = not keep_length
        self._state = _State.START
        self._forwarded: list[bytes] = []
        """The parts of the current data that are forwarded, up to `_since`."""
        self._since = 0
        self._kept = b""
        """The last bytes received, where they may be the beginning of what is searched for."""
        self._in_string = self._escaped = False
        self._depth = 0
        """Number of open containers within the one that the state stands for."""
        self._comma_goes = False
        """Whether the next comma is removed, because the member before it was the first and was removed."""
        self._passes_next = False
        """Whether the next member stays, because its comma has been forwarded."""

    def feed(self, piece: bytes) -> bytes:
        """Filter the next piece; return the bytes that may be forwarded now, perhaps none."""
        if len(piece) == self._length and b"tool_calls" not in piece and b"\\u00" not in piece:
            self._state = _State.END  # a whole body, as most are, without such a key, escaped or not
        if self._state is _State.END:
            return piece
        return self._filter(self._kept + piece if self._kept else piece, ended=False)

    def end(self) -> bytes:
        """Note that the body is complete; return the rest."""
        return self._filter(self._kept, ended=True) if self._kept else b""

    def _filter(self, data: bytes, *, ended: bool) -> bytes:
        self._forwarded = []
        self._since = 0
        self._kept = b""
        at = 0
        while at < len(data) and self._state is not _State.END:
            if self._in_string:
                at = self._pass_string(data, at)
            elif self._depth:
                at = self._pass_nested(data, at)
            elif self._comma_goes or self._passes_next:
                at = self._begin_member(data, at)
            else:
                at = _PASSED[self._state](data, at).end()  # type: ignore[union-attr]  # it matches nothing, too
                mark = data[at : at + 1]
                if not mark:
                    break
                if mark not in b'",':
                    self._pass_bracket(mark)
                    at += 1
                elif ended or not self._is_to_come(data, at):
                    at = self._take_sought(data, at, mark)
                else:
                    self._kept = data[at:]
                    data = data[:at]
        return b"".join([*self._forwarded, data[self._since :]]) if self._since else data

    def _cut(self, data: bytes, begin: int, end: int) -> int:
        self._forwarded += (data[self._since : begin], b" " * (end - begin) if self._keep_length else b"")
        self._since = end
        return end

    def _is_to_come(self, data: bytes, at: int) -> bool:
        """Whether the rest of the data, if that is short, may be the beginning of what is searched for."""
        begun = _BEGUN.get(self._state)
        return begun is not None and len(data) - at <= MAX_MEMBER and begun(data, at) is not None

    def _pass_bracket(self, mark: bytes) -> None:
        state = self._state
        if state is _State.START:
            self._state = _State.OBJECT if mark == b"{" else _State.END
        elif mark in b"}]":
            self._state = _CLOSED_TO[state]
        elif state is _State.MESSAGES and mark == b"{":
            self._state = _State.MESSAGE
        else:
            self._depth = 1

    def _take_sought(self, data: bytes, at: int, mark: bytes) -> int:
        """Cut an empty member, or enter the messages; otherwise skip a string that is incomplete or a long member."""
        if self._state is _State.MESSAGE:
            empty = _EMPTY(data, at)
            if empty and empty.end() - at <= MAX_MEMBER:
                at = self._cut(data, at, empty.end())
                self._comma_goes = mark != b"," and data[at : at + 1] != b"}"
                return at
        elif self._state is _State.OBJECT and (messages := _MESSAGES_ARRAY(data, at)):
            self._state = _State.MESSAGES
            return messages.end()
        elif self._state is _State.START:  # a string on its own
            self._state = _State.END
            return at
        self._in_string = mark == b'"'
        self._passes_next = not self._in_string
        return at + 1

    def _begin_member(self, data: bytes, at: int) -> int:
        """Skip white space; remove the comma or keep the member that follows it."""
        at = _WHITE.match(data, at).end()  # type: ignore[union-attr]
        if at == len(data):
            return at
        if self._comma_goes and data[at : at + 1] == b",":
            at = self._cut(data, at, at + 1)
        elif self._passes_next and data[at : at + 1] == b'"':
            self._in_string = True
            at += 1
        self._comma_goes = self._passes_next = False
        return at

    def _pass_string(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            at += 1
        end = _IN_STRING.match(data, at).end()  # type: ignore[union-attr]
        if end < len(data):
            self._escaped = data[end : end + 1] == b"\\"  # the last byte
            self._in_string = self._escaped
            end += 1
        return end

    def _pass_nested(self, data: bytes, at: int) -> int:
        while at < len(data) and self._depth and not self._in_string:
            at = self._pass_deep(data, at) if self._depth > _DEEP else self._pass_shallow(data, at)
        return at

    def _pass_shallow(self, data: bytes, at: int) -> int:
        found = _NESTED.match(data, at)
        assert found is not None  # noqa: S101  # for mypy: it matches anything
        at = found.end()
        if found.lastgroup == "opened":
            self._depth += len(found["opened"])
        elif found.lastgroup == "closed":
            closed = min(len(found["closed"]), self._depth)
            self._depth -= closed
            at = found.start("closed") + closed
        else:
            self._in_string = found.lastgroup == "begun_string"
        return at

    def _pass_deep(self, data: bytes, at: int) -> int:
        """Skip fewer bytes than there are open containers, so that the outermost one stays open in any case."""
        part = data[at : at + min(self._depth - 1, _MOST_AT_ONCE)]
        outside, begun_string, _ = _WHOLE_STRING.sub(b"", part).partition(b'"')
        opened = outside.count(b"[") + outside.count(b"{")
        self._depth += opened - outside.count(b"]") - outside.count(b"}")
        self._in_string = bool(begun_string)
        self._escaped = self._in_string and (len(part) - len(part.rstrip(b"\\"))) % 2 == 1
        return at + len(part)
