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


def too_large(limit: int) -> http.Response:
    """The answer to a request body of more than `limit` bytes."""
    return error_answer(413, f"The request body is larger than {limit} bytes.")


def refuse(flow: http.HTTPFlow, status: int, message: str) -> None:
    """Answer a request with an error on its headers alone: in the `requestheaders` hook.

    Args:
        flow: Its response is set, and its body will fall unread.
        status: See `error_answer`.
        message: See `error_answer`.
    """
    # With both set, ApiHttpStream answers at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = error_answer(status, message, flow.request.method)
    if status == 400:
        flow.response.headers["connection"] = "close"  # who knows what the rest of it was meant to be
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
