"""Exchanges as they are stored outside of this process: JSON, which is checked when it is read.

Others may be able to write to the store. What they can have found is old signatures or none: a forged one fails at the
verifier. What they write takes no more of this process than a value of its own does.
"""

import json
from typing import Any

from attest_web.signatures import NotSigned, SignedExchange

MAX_REASON = 200
"""Characters of a reason at most."""


class ForeignValueError(Exception):
    """A value is nothing that this proxy has stored."""


def to_json(outcome: SignedExchange | NotSigned) -> bytes:
    """An exchange as it is stored."""
    found = {"not_signed": outcome.reason} if isinstance(outcome, NotSigned) else outcome
    return json.dumps(found, separators=(",", ":")).encode()


def signature_of(value: bytes, max_bytes: int) -> SignedExchange:
    """An exchange as it was stored. Members that are not known are left out.

    Raises:
        ForeignValueError: The value is something else, or longer than `max_bytes`.
    """
    found = _object(value, max_bytes)
    made: Any = {name: _text(found.get(name)) for name in SignedExchange.__annotations__}
    signed: SignedExchange = made
    return signed


def reason_of(value: bytes, max_bytes: int) -> str:
    """Why an exchange has no signature, as it was stored.

    Raises:
        ForeignValueError: The value is something else, or longer than `max_bytes`.
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
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested too deeply
        raise ForeignValueError from None
    if not isinstance(found, dict):
        raise ForeignValueError
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise ForeignValueError
    try:
        found.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ForeignValueError from None
    return found
