"""Strict parsing of JSON from the checked party: every access states its type and raises `FailedError`."""

import base64
import binascii
import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from attest_web.verify.primitives.checks import FailedError

JsonObject = dict[str, Any]

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")


def parse_json(data: bytes | str, what: str) -> Any:
    """Parse a JSON text (RFC 8259).

    Raises:
        FailedError: It is not JSON in UTF-8 without a byte order mark, is nested too deeply, has numbers that are too
            large, or has an object with two members of one name, where parsers differ.
    """

    def without_duplicates(members: list[tuple[str, Any]]) -> JsonObject:
        made = dict(members)
        if len(made) != len(members):
            names = Counter(name for name, _ in members)
            raise FailedError(f"{what} has an object with more than one {names.most_common(1)[0][0]!r}")
        return made

    def finite(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            raise FailedError(f"{what} is not JSON that can be read (a number is too large)")
        return value

    def no_number(name: str) -> NoReturn:  # NaN and Infinity: `json` accepts them, JSON does not
        raise FailedError(f"{what} is not JSON ({name} is no number)")

    try:
        # `json` itself would accept UTF-16, UTF-32 and a lone surrogate.
        decoded = data if isinstance(data, str) else data.decode()
        return json.loads(decoded, object_pairs_hook=without_duplicates, parse_float=finite, parse_constant=no_number)
    except UnicodeDecodeError:
        raise FailedError(f"{what} is not JSON (not UTF-8)") from None
    except (ValueError, RecursionError) as error:
        reason = (
            f"{error.msg}, at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "cannot be read"
        )
        raise FailedError(f"{what} is not JSON ({reason})") from None


def parse_object(data: bytes | str, what: str) -> JsonObject:
    """Parse a JSON text that must be an object.

    Raises:
        FailedError: `parse_json` rejects it, or it is not an object.
    """
    return as_object(parse_json(data, what), what)


def as_object(value: object, what: str) -> JsonObject:
    """The value, which must be a JSON object.

    Raises:
        FailedError: It is not.
    """
    if not isinstance(value, dict):
        raise FailedError(f"{what} is not a JSON object")
    return value


def member(source: JsonObject, name: str, what: str) -> Any:
    """A member that must be there and not be null.

    Raises:
        FailedError: It is not.
    """
    if source.get(name) is None:
        raise FailedError(f"{what} has no {name!r}")
    return source[name]


def text(source: JsonObject, name: str, what: str) -> str:
    """A member that must be a string that UTF-8 can carry.

    Raises:
        FailedError: It is not.
    """
    value = member(source, name, what)
    if not isinstance(value, str):
        raise FailedError(f"{name!r} of {what} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise FailedError(f"{name!r} of {what} is not a string of Unicode characters") from None
    return value


def integer(source: JsonObject, name: str, what: str) -> int:
    """A member that must be an integer.

    Raises:
        FailedError: It is not.
    """
    value = member(source, name, what)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FailedError(f"{name!r} of {what} is not an integer")
    return value


def items(source: JsonObject, name: str, what: str) -> list[Any]:
    """A member that must be a list.

    Raises:
        FailedError: It is not.
    """
    value = member(source, name, what)
    if not isinstance(value, list):
        raise FailedError(f"{name!r} of {what} is not a list")
    return value


def hex_bytes(digits: str, what: str, size: int | None = None) -> bytes:
    """Decode hex digits without prefix and spaces (`bytes.fromhex` accepts spaces).

    Args:
        digits: The digits, in either case.
        what: Name of the value, for the error.
        size: Required number of bytes; None for any.

    Raises:
        FailedError: They are malformed or of another size.
    """
    if not _HEX.fullmatch(digits):
        raise FailedError(f"{what} is not hex")
    value = bytes.fromhex(digits)
    if size is not None and len(value) != size:
        raise FailedError(f"{what} is {len(value)} bytes long, not {size}")
    return value


def lower_hex_bytes(digits: str, what: str, size: int) -> bytes:
    """Decode hex digits that must be in lower case; see `hex_bytes`.

    Raises:
        FailedError: They are malformed, of another size, or have upper-case letters.
    """
    value = hex_bytes(digits, what, size)
    if digits != value.hex():
        raise FailedError(f"{what} is not in lower case")
    return value


def base64_bytes(digits: str, what: str) -> bytes:
    """Decode canonical base64 (RFC 4648, 4): padded, without other characters, the unused bits zero.

    Raises:
        FailedError: It is malformed.
    """
    try:
        value = base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        value = None
    # The library accepts any unused bits, which other parsers reject.
    if value is None or base64.b64encode(value).decode() != digits:
        raise FailedError(f"{what} is not base64")
    return value
