"""Rejects headers that cannot be sent, before a library does so with an error that quotes them."""

import contextlib
import re
from collections.abc import Callable
from typing import Final

import httpx2

_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
"""`field-value` of RFC 9110, 5.5."""

MIN_REDACTED: Final = 8
"""Shortest token that is redacted, in characters; a shorter one is part of many words."""


def refuse_token(token: object) -> None:
    """Reject a token that no header can carry.

    Args:
        token: The token; the SDK checks a value that is not a string.

    Raises:
        ValueError: It has a blank at an end, a control character or a non-ASCII character. It is not quoted.
    """
    if not isinstance(token, str):
        return
    if not (token.isascii() and (token.isprintable() or not token) and token == token.strip()):
        raise ValueError(
            "api_key: a token has printable ASCII characters, and no blank or line end before or after them; see how"
            " it was read (str.strip removes a line end)"
        )


def checked_headers(build: Callable[[], httpx2.Headers]) -> httpx2.Headers:
    """The headers that a library builds.

    Args:
        build: The function that builds them.

    Raises:
        ValueError: They cannot be sent. The error, its cause and its context quote no part of them.
    """
    headers = None
    with contextlib.suppress(UnicodeEncodeError):  # its arguments contain the whole value
        headers = build()
    if headers is None:
        raise ValueError("a header has non-ASCII characters; is it api_key, or one of default_headers?")
    refuse_headers(headers)
    return headers


def refuse_headers(headers: httpx2.Headers) -> None:
    """Reject headers that HTTP does not allow.

    Raises:
        ValueError: A value has a control character, or a blank at an end. It is not quoted.
    """
    if not all(_VALUE.fullmatch(value) for _, value in headers.raw):
        raise ValueError(
            "the value of a header has a control character or a line end in it, or a blank at an end; is it api_key, or"
            " one of default_headers?"
        )


def redacted(said: bytes, authorization: str | None) -> bytes:
    """A server's response body, without the token that the server was sent.

    Args:
        said: The body.
        authorization: The `Authorization` of the request; None without one.
    """
    token = (authorization or "").rpartition(" ")[2].encode()
    return said.replace(token, b"[token]") if len(token) >= MIN_REDACTED else said
