"""The I/O steps of proving, so that sync and async clients share the same sans-I/O logic.

A generator yields steps and receives their results; it does no I/O itself.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from attest_web.verify.primitives.http_client import FetchError


class TookTooLongError(FetchError):
    """The deadline of a request for proof has passed; a retry would not help."""


@dataclass(frozen=True)
class StartDeadline:
    """Start the deadline of a request for proof, which covers all its retries and waits."""


@dataclass(frozen=True)
class Get:
    """Send a GET request to the server of signatures and reports. The result is an `Answer` or a `FetchError`.

    Attributes:
        target: Path and query, relative to the base URL.
        about_keys: Whether it requests a report about the keys, for which the connection need not be attested.
        with_token: Whether the token is sent with it.
    """

    target: str
    about_keys: bool = False
    with_token: bool = True


@dataclass(frozen=True)
class Wait:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class RunBlocking:
    """Call a blocking function in a thread. The result is its return value."""

    call: Callable[[], Any]


Step = StartDeadline | Get | Wait | RunBlocking
T = TypeVar("T")
Steps = Generator[Step, Any, T]


def signature_target(response_id: str, algo: str, model: str | None) -> str:
    """The path of a response's signature. NEAR AI's gateway needs the model, too; others ignore it."""
    query = {"signing_algo": algo} | ({"model": model} if model is not None else {})
    return f"/signature/{quote(response_id, safe='')}?{urlencode(query)}"


def report_target(
    algo: str, nonce: bytes, address: str | None = None, *, tls: bool = False, model: str | None = None
) -> str:
    """The path of a report about the key of an address, or about the key in use."""
    query = {"signing_algo": algo, "nonce": nonce.hex(), "include_tls_fingerprint": "true" if tls else "false"}
    query |= ({"signing_address": address} if address is not None else {}) | ({"model": model} if model else {})
    return f"/attestation/report?{urlencode(query)}"
