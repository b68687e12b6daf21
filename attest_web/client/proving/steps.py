"""What the logic of proving asks of whoever runs it, so that there is one logic for sync and async clients.

A generator yields steps and is sent what came of them, in the manner of h11: it does no I/O itself.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from attest_web.verify.primitives.http_client import FetchError


class TookTooLongError(FetchError):
    """The time for a question for proof is over; there is no point in asking again."""


@dataclass(frozen=True)
class Question:
    """A question for proof begins: it has the time that such a question may take, with all its tries and waits."""


@dataclass(frozen=True)
class Get:
    """Ask the server that shows proof. What comes back is an `Answer`, or a `FetchError` where there was none.

    Attributes:
        target: Path and query, behind the base URL.
        about_keys: Whether it is a question about the keys themselves, which may go over a connection that nothing is
            known of.
        with_token: Whether the token goes with it.
    """

    target: str
    about_keys: bool = False
    with_token: bool = True


@dataclass(frozen=True)
class Wait:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that blocks, in a thread; what comes back is what it returns."""

    call: Callable[[], Any]


Step = Question | Get | Wait | Work
T = TypeVar("T")
Steps = Generator[Step, Any, T]


def signature_target(response_id: str, algo: str, model: str | None) -> str:
    """Where the signature of an answer is. NEAR AI's gateway asks for the model, too; others do not mind it."""
    query = {"signing_algo": algo} | ({"model": model} if model is not None else {})
    return f"/signature/{quote(response_id, safe='')}?{urlencode(query)}"


def report_target(
    algo: str, nonce: bytes, address: str | None = None, *, tls: bool = False, model: str | None = None
) -> str:
    """Where a report about a key is: of an address, or of the key that is in use."""
    query = {"signing_algo": algo, "nonce": nonce.hex(), "include_tls_fingerprint": "true" if tls else "false"}
    query |= ({"signing_address": address} if address is not None else {}) | ({"model": model} if model else {})
    return f"/attestation/report?{urlencode(query)}"
