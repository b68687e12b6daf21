"""Validators of the settings: each returns the normalised value, or raises a `ValueError` that does not quote it."""

import re
from urllib.parse import urlsplit

from pydantic import SecretStr

from attest_web.host_names import is_host


def printable_name(value: str) -> str:
    """A name without control characters and without blanks at its ends."""
    if not value.strip() or not value.isprintable():
        raise ValueError("it is empty or has control characters in it")
    return value.strip()


def lower_case(value: object) -> object:
    """A text in lower case; any other value as it is, for the next validator."""
    return value.lower() if isinstance(value, str) else value


def bearer_tokens(value: SecretStr) -> SecretStr:
    """One token, or several separated by commas; a text that no `Authorization` header can carry is rejected."""
    # RFC 6750's b64token and all other visible characters: a token with a space could never be sent.
    if not all(re.fullmatch(r"[!-+\--~]+", token) for token in split_tokens(value)):
        raise ValueError("a token is empty or has a space, a control or a non-ASCII character in it")
    return value


def base_url(value: str) -> str:
    """An http or https URL without a path: scheme, host and port, without a slash at the end."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("it is not an http:// or https:// address")
    if url.path.rstrip("/") or url.query or url.fragment:
        raise ValueError("it has a path; leave out everything behind the port, /v1 too")
    _ = url.port  # raises ValueError where it is no port
    return f"{url.scheme}://{url.netloc}"


def endpoint_url(value: str) -> str:
    """An http or https URL with a path and no query."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("it is not an http:// or https:// address")
    if not re.fullmatch(r"/[!-~]+", url.path) or url.query or url.fragment:
        raise ValueError("it has no path, or a query; write all of the endpoint's address")
    _ = url.port  # raises ValueError where it is no port
    return value


def collector_url(value: str) -> str:
    """An http or https URL."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("it is not an http:// or https:// address")
    _ = url.port  # raises ValueError where it is no port
    return value


def https_url(value: str) -> str:
    """An https URL in printable ASCII, without a user."""
    url = urlsplit(value)
    if url.scheme != "https" or not url.hostname or url.username is not None or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("it is not an https:// address")
    _ = url.port  # raises ValueError where it is no port
    return value


def split_tokens(value: SecretStr) -> list[str]:
    """The tokens of a comma-separated `TOKEN`."""
    return [token.strip() for token in value.get_secret_value().split(",")]


def cors_origins(value: str) -> str:
    """Origins (RFC 6454, 6.2) separated by commas, or `*`, or `none`."""
    if value.strip() in ("*", "none"):
        return value.strip()
    for origin in value.split(","):
        if not re.fullmatch(r"[a-z][a-z0-9+.\-]*://[a-z0-9.\-\[\]:]+", origin.strip()):
            raise ValueError(
                "an origin is written as browsers send it, e.g. https://chat.example, with no / at its end"
            )
    return value


def alternative_names(value: str) -> str:
    """Host names and IP addresses for a certificate (RFC 5280, 4.2.1.6), separated by commas."""
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise ValueError("there is an empty name in it; leave out the comma before or behind it")
    if not all(map(is_host, names)):
        raise ValueError("a name is neither a host's, e.g. chat.example, nor an IP address")
    return value
