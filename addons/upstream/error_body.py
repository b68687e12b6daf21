"""Reads the body of an upstream error, and rewrites it in the shape of this proxy's own errors. Pure."""

import json
import math
import re
from typing import Any, NamedTuple

from addons.messages.redaction import redact
from addons.upstream.validation_text import without_input
from attest_web.errors import anthropic_error_body, error_type

MAX_MESSAGE = 2000
"""Characters of an error's message that are passed on."""

MAX_LOGGED = 200
"""Characters of an error's message that are logged."""

UNKNOWN = "The model server answered with an error and did not say more."

MAX_LABEL = 200
"""Most characters of `param` and `code`; longer values are left out."""

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.:/ -]{0,63}")
"""Accepted values of an error's `type`. Starlette uses the phrase of the status: `Not Found`."""


class UpstreamError(NamedTuple):
    """An upstream error without quotes of the input; a member is None if it is absent or not usable."""

    message: str | None
    kind: str | None
    param: str | None = None
    code: str | float | None = None

    def for_log(self) -> str | None:
        """A line for the log: the type, and the message up to its first quotation mark."""
        message = "".join(c if c.isprintable() else " " for c in redact(self.message or ""))[:MAX_LOGGED]
        return ": ".join(filter(None, (self.kind, message))) or None


def read_error(body: bytes) -> UpstreamError:
    """Read an upstream's error.

    Args:
        body: `{"message", "type", "param", "code"}`, `{"error": {…}}` with the same, `{"error": "…"}`, FastAPI's
            `{"detail"}`, or anything else, which gives an error without members.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        error = {**parsed, "message": error}
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
    """An upstream error in the shape of this proxy's own errors.

    Args:
        status: HTTP status, 400 or more.
        body: As for `read_error`.
        anthropic: Whether to use Anthropic's shape, which has neither `param` nor `code`.
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
