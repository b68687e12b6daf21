"""The stored form of exchanges in a backend: JSON, which is checked when it is read.

Other parties may be able to write to the store. They can only make lookups return old signatures or none: a forged
signature fails at the verifier. Their values take no more resources of this process than its own values do.
"""

import json
from typing import Any

from attest_web.signatures import NotSigned, SignedExchange

MAX_REASON = 200
"""Longest reason, in characters."""


class ForeignValueError(Exception):
    """A value was not stored by this proxy."""


def to_json(outcome: SignedExchange | NotSigned) -> bytes:
    """The stored form of an exchange."""
    found = {"not_signed": outcome.reason} if isinstance(outcome, NotSigned) else outcome
    return json.dumps(found, separators=(",", ":")).encode()


def signature_of(value: bytes, max_bytes: int) -> SignedExchange:
    """Parse a stored signature. Unknown members are ignored.

    Raises:
        ForeignValueError: The value is not a signature, or longer than `max_bytes`.
    """
    found = _object(value, max_bytes)
    made: Any = {name: _text(found.get(name)) for name in SignedExchange.__annotations__}
    signed: SignedExchange = made
    return signed


def reason_of(value: bytes, max_bytes: int) -> str:
    """Parse the stored reason why an exchange is not signed.

    Raises:
        ForeignValueError: The value is not a reason, or longer than `max_bytes`.
    """
    reason = _text(_object(value, max_bytes).get("not_signed"))
    if not 0 < len(reason) <= MAX_REASON or not reason.isascii() or not reason.isprintable():
        raise ForeignValueError
    return reason


def _object(value: bytes, max_bytes: int) -> dict[str, Any]:
    if len(value) > max_bytes:
        raise ForeignValueError
    try:
        found = json.loads(value.decode())
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
        raise ForeignValueError from None
    if not isinstance(found, dict):
        raise ForeignValueError
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise ForeignValueError
    try:
        found.encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise ForeignValueError from None
    return found
