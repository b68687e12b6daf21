"""Answers that this proxy gives by itself."""

from collections.abc import Mapping

from mitmproxy import http

from attest_web.errors import ErrorType, anthropic_error_body, error_body, error_headers

ANTHROPIC_PATH = "/v1/messages"
"""Where, and below which, requests and errors have the form of Anthropic's API."""


def speaks_anthropic(request: http.Request) -> bool:
    """Whether a request is one of Anthropic's API."""
    path = request.path.partition("?")[0]
    return path == ANTHROPIC_PATH or path.startswith(ANTHROPIC_PATH + "/")


def error_response(
    status: int, message: str, request: http.Request | None = None, kind: ErrorType | None = None
) -> http.Response:
    """An error in OpenAI's shape, or in Anthropic's where the request is one of its API.

    Args:
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
        request: What it answers, where that could be read: the answer to a HEAD has no body (RFC 9110, 9.3.2).
        kind: The error's `type`; by default, that of the status.
    """
    if request is not None and speaks_anthropic(request):
        body = anthropic_error_body(status, message, kind)
    else:
        body = error_body(status, message, kind)
    is_head = request is not None and request.method == "HEAD"
    answer = http.Response.make(status, b"" if is_head else body, error_headers(status))
    answer.headers["content-length"] = str(len(body))
    return answer


def too_large(limit: int, request: http.Request) -> http.Response:
    """The answer to a request whose body has more than `limit` bytes."""
    return error_response(413, f"The request body is larger than {limit} bytes.", request)


def no_room(request: http.Request) -> http.Response:
    """The answer to a request whose body there is no memory for."""
    answer = error_response(503, "Too many request bodies are under way. Try again in a moment.", request)
    answer.headers["retry-after"] = "1"
    return answer


def reject(
    flow: http.HTTPFlow,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    kind: ErrorType | None = None,
) -> None:
    """Answer a request on its headers alone, with an error; its body falls unread.

    Args:
        flow: In its `requestheaders` hook.
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
        headers: What else the answer is to carry.
        kind: The error's `type`; by default, that of the status.
    """
    answer = error_response(status, message, flow.request, kind)
    answer.headers.update(headers or {})
    if status == 400:
        answer.headers["connection"] = "close"  # who knows what the rest of it was meant to be
    respond_early(flow, answer)


def respond_early(flow: http.HTTPFlow, answer: http.Response) -> None:
    """Set the answer of a request whose body is not wanted, in its `requestheaders` hook."""
    # With both set, ApiHttpStream answers at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = answer
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
