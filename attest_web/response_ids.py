"""Which values can serve as the id of a response: what a signature is stored under and fetched by."""

import re
from typing import Any, Final

MAX_ID: Final = 512
"""Characters of a response id at most."""

_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def usable_id(value: object) -> str | None:
    """The value, where it can serve as a response id: a string of 1 to `MAX_ID` characters that UTF-8 can carry."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        return None
    return value


def is_path_segment(value: object) -> bool:
    """Whether a client may ask for a signature by this: a usable id that is one segment of a path (RFC 3986, 3.3).

    The server makes the id, and it becomes part of a URL that the token is sent to: it has no slash, and is not `..`.
    """
    return isinstance(value, str) and len(value) <= MAX_ID and _PATH_SEGMENT.fullmatch(value) is not None


def response_id(source: dict[str, Any]) -> str | None:
    """The response id that a response or an event names: its own, or that of its `response` or `message`."""
    for place in (source, source.get("response"), source.get("message")):
        value = place.get("id") if isinstance(place, dict) else None
        if is_path_segment(value):
            return str(value)
    return None
