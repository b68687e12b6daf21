"""Answers that this proxy gives by itself."""

from mitmproxy import http

from attest_web.errors import error_body, error_headers


def error_answer(status: int, message: str) -> http.Response:
    """An error in OpenAI's shape.

    Args:
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
    """
    return http.Response.make(status, error_body(status, message), error_headers(status))
