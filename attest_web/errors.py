"""The formats of this proxy's own errors: OpenAI's error object, and Anthropic's on Anthropic's endpoints."""

import json
from typing import Literal

ErrorType = Literal[
    "bad_request",
    "e2ee_unsupported",
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
    "e2ee_unsupported": 400,
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
    """The error type for an HTTP status of 400 or more; the nearest type if the contract names none."""
    for name, its_status in STATUS.items():
        if its_status == status:
            return name
    return "bad_request" if status < 500 else "server_error"


def error_headers(status: int) -> dict[str, str]:
    """The headers of an error with this status: its content type, and `WWW-Authenticate` for a 401 (RFC 6750, 3)."""
    headers = {"content-type": "application/json"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def error_body(status: int, message: str, kind: ErrorType | None = None, code: str | None = None) -> bytes:
    """The JSON body of an error.

    Args:
        status: HTTP status.
        message: The error and its remedy, for the client. It never quotes what the client or the upstream sent.
        kind: The error's `type`; by default, that of the status.
        code: The error's `code`.
    """
    error = {"message": message, "type": kind or error_type(status), "param": None, "code": code}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def anthropic_error_body(status: int, message: str, kind: str | None = None) -> bytes:
    """The JSON body of an error in the format of Anthropic's API ("Errors", HTTP errors and error shapes).

    Args:
        status: HTTP status.
        message: As for `error_body`.
        kind: The error's `type`; by default, Anthropic's for the status.
    """
    by_status = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"type": kind or by_status, "message": message}
    return json.dumps({"type": "error", "error": error}, separators=(",", ":")).encode()
