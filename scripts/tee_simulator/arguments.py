"""A call's arguments, and what is wrong with them in the words of dstack's guest agent.

The agent reads JSON with Rust's `serde_json`, whose messages say where in the text an error is: of a value's type
behind the value, of its hex behind the whole object. A field that is missing has the default of its type, one that is
not known is ignored.
"""

import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER_MAX = (1 << 64) - 1


class ArgumentError(ValueError):
    """The arguments are refused."""


@dataclass(frozen=True)
class _Value:
    """A field's value and where it stands in the text, from `start` up to `end`."""

    value: Any
    start: int
    end: int


class Arguments:
    """The arguments of one call."""

    def __init__(self, source: str, fields: dict[str, _Value]) -> None:
        self._source = source
        self._fields = fields

    @classmethod
    def from_json(cls, body: bytes) -> "Arguments":
        """Read a request's body.

        Args:
            body: A JSON object.

        Raises:
            ArgumentError: It is none.
        """
        try:
            source = body.decode()
        except UnicodeDecodeError as error:
            raise ArgumentError(f"invalid unicode code point at line 1 column {error.start}") from None
        return cls(source, _members(source))

    @classmethod
    def from_query(cls, query: str) -> "Arguments":
        """Read a target's query: flags are `true` or `false`, lists are fields that come more than once."""
        fields: dict[str, list[str]] = urllib.parse.parse_qs(query, keep_blank_values=True)
        return cls("", {name.removesuffix("[]"): _Value(_QueryField(said), 0, 0) for name, said in fields.items()})

    def text(self, name: str) -> str:
        """A string, empty by default.

        Raises:
            ArgumentError: It is no string.
        """
        text: str = self._typed(name, str, "a string", "")
        if not _is_unicode(text):
            raise self._error("lone leading surrogate in hex escape", self._fields[name].end)
        return text

    def binary(self, name: str) -> bytes:
        """Bytes in hex, empty by default; `0x` may stand in front.

        Raises:
            ArgumentError: It is no string, or no hex.
        """
        digits = self.text(name).removeprefix("0x")
        if len(digits) % 2:
            raise self._error("Odd number of digits", len(self._source))
        for position, digit in enumerate(digits):
            if digit not in "0123456789abcdefABCDEF":
                raise self._error(f"Invalid character {digit!r} at position {position}", len(self._source))
        return bytes.fromhex(digits)

    def flag(self, name: str) -> bool:
        """A boolean, false by default.

        Raises:
            ArgumentError: It is none.
        """
        flag: bool = self._typed(name, bool, "a boolean", default=False)
        return flag

    def number(self, name: str) -> int | None:
        """An unsigned integer of 64 bits, None by default.

        Raises:
            ArgumentError: It is none.
        """
        number: int | None = self._typed(name, int, "u64", None)
        if number is not None and not 0 <= number <= _NUMBER_MAX:
            end = self._fields[name].end
            raise self._error(f"invalid value: integer `{number}`, expected u64", end)
        return number

    def texts(self, name: str) -> list[str]:
        """A list of strings, empty by default.

        Raises:
            ArgumentError: It is none.
        """
        found: list[Any] = self._typed(name, list, "a sequence", [])
        for item in found:
            if not isinstance(item, str) or not _is_unicode(item):
                raise self._error(f"invalid type: {_shown(item)}, expected a string", self._fields[name].end)
        return found

    def _typed(self, name: str, kind: type, expected: str, default: Any) -> Any:
        if name not in self._fields:
            return default
        field = self._fields[name]
        value = field.value.read_as(kind) if isinstance(field.value, _QueryField) else field.value
        if value is None and default is None:
            return None
        if type(value) is not kind:
            at = field.start if isinstance(value, list | dict) else field.end
            raise self._error(f"invalid type: {_shown(value)}, expected {expected}", at)
        return value

    def _error(self, message: str, at: int) -> ArgumentError:
        return ArgumentError(message + (_position(self._source, at) if self._source else ""))


@dataclass(frozen=True)
class _QueryField:
    said: list[str]

    def read_as(self, kind: type) -> Any:
        last = self.said[-1]
        if kind is list:
            return self.said
        if kind is bool and last in ("true", "false"):
            return last == "true"
        if kind is int and last.isascii() and last.isdecimal():
            return int(last)
        return last


def _members(source: str) -> dict[str, _Value]:
    """The members of the object that a text is.

    Raises:
        ArgumentError: It is none.
    """
    decoder = json.JSONDecoder()
    at = _skip(source, 0)
    if at == len(source):
        raise ArgumentError("EOF while parsing a value at line 1 column 0")
    if source[at] != "{":
        value, _ = _decoded(decoder, source, at)
        raise ArgumentError(f"invalid type: {_shown(value)}, expected an object" + _position(source, at))
    members: dict[str, _Value] = {}
    at = _skip(source, at + 1)
    while source[at : at + 1] != "}":
        if members:
            at = _skip(source, _expect(source, at, ",", "expected `,` or `}`"))
        _expect(source, at, '"', "key must be a string")
        name, at = _decoded(decoder, source, at)
        at = _skip(source, _expect(source, _skip(source, at), ":", "expected `:`"))
        value, end = _decoded(decoder, source, at)
        members[name] = _Value(value, at, end)
        at = _skip(source, end)
    if (end := _skip(source, at + 1)) != len(source):
        raise ArgumentError("trailing characters" + _position(source, end + 1))
    return members


def _expect(source: str, at: int, character: str, otherwise: str) -> int:
    if at >= len(source):
        raise ArgumentError("EOF while parsing an object" + _position(source, at))
    if source[at] != character:
        raise ArgumentError(otherwise + _position(source, at + 1))
    return at + 1


def _decoded(decoder: json.JSONDecoder, source: str, at: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(source, at)
    except json.JSONDecodeError as error:
        if error.pos >= len(source):
            raise ArgumentError("EOF while parsing a value" + _position(source, error.pos)) from None
        raise ArgumentError("expected value" + _position(source, error.pos + 1)) from None
    except (RecursionError, ValueError):  # nested too deep, or a number of too many digits
        raise ArgumentError("recursion limit exceeded" + _position(source, at)) from None


def _skip(source: str, at: int) -> int:
    space = _SPACE.match(source, at)
    return space.end() if space else at


def _position(source: str, at: int) -> str:
    before = source[:at].encode("utf-8", "surrogatepass")
    line_at = before.rfind(b"\n") + 1
    return f" at line {before.count(b'\n') + 1} column {len(before) - line_at}"


def _is_unicode(text: str) -> bool:
    """Whether a text has no surrogates, which JSON's escapes can leave alone."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: Any) -> str:
    """A value in the words of `serde_json`."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f"string {json.dumps(value)}"
        case list():
            return "sequence"
    return "map"
