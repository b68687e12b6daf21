"""Requires a bearer token of requests to a page."""

from flask import abort, request

from attest_web.middleware.auth import Tokens


def require_token(tokens: Tokens) -> None:
    """Accept the current request, or end it with 401."""
    # WSGI decodes header bytes as Latin-1 (PEP 3333).
    if not tokens.accept(request.headers.get("Authorization", "").encode("latin-1", "replace")):
        abort(401, "A valid token is needed: send Authorization: Bearer <token>.")
