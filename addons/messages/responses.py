"""Responses that this proxy makes itself."""

from collections.abc import Mapping

from mitmproxy import http

from attest_web.errors import ErrorType, anthropic_error_body, error_body, error_headers

ANTHROPIC_PATH = "/v1/messages"
"""The path at and below which requests and errors have the shape of Anthropic's API."""


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
        request: The request, if its head could be read: the response to a HEAD has no body (RFC 9110, 9.3.2).
        kind: The error's `type`; by default, that of the status.
    """
    if request is not None and speaks_anthropic(request):
        body = anthropic_error_body(status, message, kind)
    else:
        body = error_body(status, message, kind)
    is_head = request is not None and request.method == "HEAD"
    response = http.Response.make(status, b"" if is_head else body, error_headers(status))
    response.headers["content-length"] = str(len(body))
    return response


def too_large(limit: int, request: http.Request) -> http.Response:
    """The response to a request whose body has more than `limit` bytes."""
    return error_response(413, f"The request body is larger than {limit} bytes.", request)


def no_room(request: http.Request) -> http.Response:
    """The response to a request for whose body there is no memory."""
    response = error_response(503, "Too many request bodies are under way. Try again in a moment.", request)
    response.headers["retry-after"] = "1"
    return response


def reject(
    flow: http.HTTPFlow,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    kind: ErrorType | None = None,
) -> None:
    """Reject a request by its headers: respond with an error, and discard the body.

    Args:
        flow: The flow, in its `requestheaders` hook.
        status: HTTP status, 400 or more.
        message: What went wrong and what to do, for the client.
        headers: Additional headers of the response.
        kind: The error's `type`; by default, that of the status.
    """
    response = error_response(status, message, flow.request, kind)
    response.headers.update(headers or {})
    if status == 400:
        response.headers["connection"] = "close"  # the rest of a malformed request cannot be parsed safely
    respond_early(flow, response)


def respond_early(flow: http.HTTPFlow, response: http.Response) -> None:
    """Set the response to a request whose body is not needed, in its `requestheaders` hook."""
    # With both set, ApiHttpStream responds at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = response
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
