"""Checks that another program's JSON can be shown to all readers of JSON (RFC 8259)."""

import json
from collections.abc import Iterable
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Nesting of arrays and objects at most. Parsers have different bounds; no response of dstack's comes near."""


def checked_json[T](value: T) -> T:
    """The value itself, if any reader of JSON can take it.

    Args:
        value: As `json.loads` gives it.

    Raises:
        ValueError: It is nested too deeply, or has a number in it that is none (NaN, Infinity), or a lone surrogate,
            for which there is no UTF-8 (RFC 3629, 3).
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [one for outer in level for one in _members(outer)]
    if level:
        raise ValueError("it is nested too deeply")
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
