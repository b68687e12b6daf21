"""Errors of the upstream, given the one shape of this proxy's own, on routes that promise no other."""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.messages.content_coding import is_not_encoded
from addons.messages.redaction import redact
from addons.messages.responses import speaks_anthropic
from addons.upstream.validation_text import without_input
from attest_web.errors import anthropic_error_body, error_type

MAX_ERROR = 64 * 1024
"""Bytes of an upstream's error that are read. Of a longer one, the status alone is passed on."""

MAX_MESSAGE = 2000
"""Characters of its message that are passed on."""

MAX_LOGGED = 200
"""Characters of it that are logged."""

UNKNOWN = "The model server answered with an error and did not say more."

MAX_LABEL = 200
"""Characters of `param` and `code` at most; longer ones are none."""

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.:/ -]{0,63}")
"""What an error's `type` may look like. Starlette gives the phrase of the status: `Not Found`."""


class UpstreamErrors:
    """Wraps errors on the catch-all."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Have an error's body collected and replaced."""
        response = flow.response
        if response is None or response.raw_content is not None or not self._wraps(flow):
            return
        readable = is_not_encoded(response)
        for name in ("content-length", "content-encoding", "transfer-encoding", "etag", "digest", "content-digest"):
            response.headers.pop(name, None)
        response.headers["content-type"] = "application/json"
        response.headers["transfer-encoding"] = "chunked"
        response.stream = ErrorBody(response.status_code, readable, anthropic=speaks_anthropic(flow.request))

    def response(self, flow: http.HTTPFlow) -> None:
        """Give an error without a body one."""
        response = flow.response
        if response is not None and response.raw_content == b"" and self._wraps(flow):
            response.headers.pop("transfer-encoding", None)
            response.content = wrapped_error(response.status_code, b"", anthropic=speaks_anthropic(flow.request))

    def _wraps(self, flow: http.HTTPFlow) -> bool:
        return (
            flow.response is not None
            and flow.response.status_code >= 400
            and flow.request.data.method != b"HEAD"
            and self._exchanges.of(flow).route.wraps_errors
        )


class ErrorBody:
    """The modifier through which an error streams: nothing passes until all is there."""

    def __init__(self, status: int, readable: bool, *, anthropic: bool = False) -> None:
        self._status = status
        self._anthropic = anthropic
        self._body: bytearray | None = bytearray() if readable else None

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Take a piece from mitmproxy; at the end, return the wrapped error."""
        if not piece:
            return wrapped_error(self._status, bytes(self._body or b""), anthropic=self._anthropic)
        if self._body is not None:
            self._body += piece
            if len(self._body) > MAX_ERROR:
                self._body = None
        return []


class ErrorLogger:
    """The modifier through which an error streams that passes as it is: takes note of what it says, for the log."""

    def __init__(self, exchange: Exchange, inner: bool | Callable[[bytes], bytes | Iterable[bytes]]) -> None:
        """Listen.

        Args:
            exchange: Is told what the error says.
            inner: The modifier through which it streams besides, if it is one.
        """
        self._exchange = exchange
        self._inner = inner if callable(inner) else None
        self._body = bytearray()

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Take a piece from mitmproxy, and hand it on."""
        if len(self._body) <= MAX_ERROR:
            self._body += piece
        if not piece and 0 < len(self._body) <= MAX_ERROR:
            self._exchange.upstream_error = read_error(bytes(self._body)).for_log()
        return self._inner(piece) if self._inner is not None else piece


class UpstreamError(NamedTuple):
    """What an upstream's error says, without what it quotes of its input; None where it does not say it."""

    message: str | None
    kind: str | None
    param: str | None = None
    code: str | float | None = None

    def for_log(self) -> str | None:
        """A line for the log: up to where it may begin to quote anything at all."""
        told = "".join(c if c.isprintable() else " " for c in redact(self.message or ""))[:MAX_LOGGED]
        return ": ".join(filter(None, (self.kind, told))) or None


def read_error(body: bytes) -> UpstreamError:
    """Read an upstream's error.

    Args:
        body: `{"message", "type", "param", "code"}`, `{"error": {…}}` with the same, `{"error": "…"}`, FastAPI's
            `{"detail"}`, or anything else, of which nothing is taken.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    error = told.get("error", told) if isinstance(told, dict) else None
    if isinstance(error, str):
        error = {**told, "message": error}
    if not isinstance(error, dict):
        return UpstreamError(None, None)
    message = error.get("message", _detail(error.get("detail")))
    kind = error.get("type")
    code = error.get("code")
    return UpstreamError(
        without_input(message) if isinstance(message, str) and message else None,
        kind if isinstance(kind, str) and _KIND.fullmatch(kind) and without_input(kind) == kind else None,
        _label(error.get("param")),
        code if isinstance(code, int | float) and not isinstance(code, bool) and _is_finite(code) else _label(code),
    )


def wrapped_error(status: int, body: bytes, *, anthropic: bool = False) -> bytes:
    """An upstream's error in the shape of this proxy's.

    Args:
        status: HTTP status, 400 or more.
        body: As for `read_error`.
        anthropic: Whether that is Anthropic's, which has neither `param` nor `code`.
    """
    error = read_error(body)
    message = (error.message or UNKNOWN)[:MAX_MESSAGE]
    if anthropic:
        return anthropic_error_body(status, message, error.kind)
    wrapped = {
        "message": message,
        "type": error.kind or error_type(status),
        "param": error.param,
        "code": error.code,
    }
    return json.dumps({"error": wrapped}, separators=(",", ":")).encode()


def _label(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_LABEL and without_input(value) == value else None


def _is_finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def _detail(detail: Any) -> str | None:
    """FastAPI's `detail`: a text, or a list of `{"loc", "msg", "input", …}`."""
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return None
    texts = []
    for problem in detail:
        if isinstance(problem, dict) and isinstance(problem.get("msg"), str):
            where = problem.get("loc")
            place = ".".join(str(part) for part in where) if isinstance(where, list) else ""
            texts.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return "; ".join(texts) or None
