"""The one shape of every error that this proxy makes: OpenAI's error object."""

import json
from typing import Literal

ErrorType = Literal[
    "bad_request",
    "unauthorized",
    "not_found",
    "payload_too_large",
    "rate_limited",
    "server_error",
    "bad_gateway",
    "gateway_timeout",
]

STATUS: dict[ErrorType, int] = {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "payload_too_large": 413,
    "rate_limited": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "gateway_timeout": 504,
}
"""The HTTP status that goes with each error type."""


def error_type(status: int) -> ErrorType:
    """The error type for an HTTP status of 400 or more; the nearest one where the contract names none."""
    for name, its_status in STATUS.items():
        if its_status == status:
            return name
    return "bad_request" if status < 500 else "server_error"


def error_headers(status: int) -> dict[str, str]:
    """The headers that an error of this status carries: its content type, and how to authenticate (RFC 6750, 3)."""
    headers = {"content-type": "application/json"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def error_body(status: int, message: str) -> bytes:
    """The JSON body of an error.

    Args:
        status: HTTP status; decides the error's `type`.
        message: What went wrong and what to do, for the client. Never quotes what the client or the upstream sent.
    """
    error = {"message": message, "type": error_type(status), "param": None, "code": None}
    return json.dumps({"error": error}, separators=(",", ":")).encode()
