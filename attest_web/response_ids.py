"""The valid ids of responses, by which signatures are stored and fetched."""

import re
from typing import Any, Final

MAX_ID: Final = 512
"""Longest response id, in characters."""

_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def usable_id(value: object) -> str | None:
    """The value if it is a valid response id: a string of 1 to `MAX_ID` characters that UTF-8 can encode; else None."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, written as an escape
        return None
    return value


def is_path_segment(value: object) -> bool:
    """Whether a client may request a signature by this: a usable id that is one segment of a path (RFC 3986, 3.3).

    The server chooses the id, and it becomes part of a URL to which the token is sent: so a slash or `..` is rejected.
    """
    return isinstance(value, str) and len(value) <= MAX_ID and _PATH_SEGMENT.fullmatch(value) is not None


def response_id(source: dict[str, Any]) -> str | None:
    """The response id in a response or an event: its own `id`, or that of its `response` or `message`."""
    for place in (source, source.get("response"), source.get("message")):
        value = place.get("id") if isinstance(place, dict) else None
        if is_path_segment(value):
            return str(value)
    return None
