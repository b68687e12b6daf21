"""What may be shown as JSON (RFC 8259) to readers of all kinds, of what another program has answered."""

import json
from collections.abc import Iterable
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Arrays and objects in one another at most. Parsers have different bounds; what is deep is no answer of dstack's."""


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
