"""Answers that this proxy gives by itself."""

from collections.abc import Mapping

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


def refuse(flow: http.HTTPFlow, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request on its headers alone, with an error; its body falls unread.

    Args:
        flow: In its `requestheaders` hook.
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
        headers: What else the answer is to carry.
    """
    answer = error_answer(status, message, flow.request.method)
    answer.headers.update(headers or {})
    if status == 400:
        answer.headers["connection"] = "close"  # who knows what the rest of it was meant to be
    answer_unread(flow, answer)


def answer_unread(flow: http.HTTPFlow, answer: http.Response) -> None:
    """Set the answer of a request whose body is not wanted, in its `requestheaders` hook."""
    # With both set, ApiHttpStream answers at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = answer
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
