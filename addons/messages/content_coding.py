"""Whether the bytes of a body are the content itself (RFC 9110, 8.4)."""

from mitmproxy import http

_NO_CODINGS = frozenset({"", "identity", "none"})
"""Values that mean no coding, also to mitmproxy; the RFC reserves `identity`."""


def is_not_encoded(message: http.Message) -> bool:
    """Whether a message's body has no content coding."""
    coding = message.headers.get("content-encoding")
    return coding is None or coding.strip().lower() in _NO_CODINGS
