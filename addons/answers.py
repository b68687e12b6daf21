"""Answers that this proxy gives by itself."""

from mitmproxy import http

from attest_web.errors import error_body, error_headers


def error_answer(status: int, message: str, method: str = "POST") -> http.Response:
    """An error in OpenAI's shape.

    Args:
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
        method: That of the request: the answer to a HEAD has no body (RFC 9110, 9.3.2).
    """
    body = error_body(status, message)
    answer = http.Response.make(status, b"" if method == "HEAD" else body, error_headers(status))
    answer.headers["content-length"] = str(len(body))
    return answer
