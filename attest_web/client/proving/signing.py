"""Requests the signatures of a response and checks them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attest_web.client.proving.errors import UnprovenError, not_holding
from attest_web.client.proving.proof import Proof
from attest_web.client.proving.steps import Get, StartDeadline, Steps, TookTooLongError, Wait, signature_target
from attest_web.signatures import SigningAlgo
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.primitives.checks import Check, FailedError, Status, all_hold
from attest_web.verify.primitives.http_client import Answer, FetchError
from attest_web.verify.signed_text import SignatureAnswer, SignedBodies, check_signature, why_not_signed

DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds to wait before each retry. This proxy stores the signature before it sends the response's end; NEAR AI's and
Phala's proxies store it afterwards."""

_AGAIN = frozenset({404, 408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which a retry may succeed."""

MAX_REASON: Final = 300
"""Longest part of a server's reason for not signing that an error repeats, in characters."""


@dataclass(frozen=True)
class Signed:
    """A request and a response with valid signatures.

    Attributes:
        bodies: Of request and response.
        statements: The responses of the signature endpoint.
        checks: The checks that were made.
        signers: The signers' addresses: 20 or 32 bytes, by algorithm. They are not attested yet.
    """

    bodies: SignedBodies
    statements: tuple[Statement, ...]
    checks: tuple[Check, ...]
    signers: Mapping[SigningAlgo, bytes]


def signatures(
    bodies: SignedBodies, ids: Sequence[str], algos: Sequence[SigningAlgo], model: str | None
) -> Steps[Signed]:
    """Request the signatures and check them.

    Args:
        bodies: The client's own bytes.
        ids: The ids to request signatures by, the preferred one first.
        algos: The algorithms that must have signed.
        model: The model of the request; None if unknown.

    Raises:
        UnprovenError: A signature is missing.
        MismatchError: A signature is invalid.
    """
    if not ids:
        raise UnprovenError(
            "this response is not signed: it has neither an x-receipt-id nor an id. Does this path pass through a"
            " signing proxy? allow_unproven allows unsigned responses of given paths"
        )
    statements, checks, signers = [], [], {}
    delays = iter(DELAYS)
    for algo in algos:
        body = yield from _first(ids, algo, model, delays)
        statements.append(Statement(body, algo))
        try:
            answer = SignatureAnswer.parse(body)
            if answer.algo != algo:
                raise FailedError(f"an {algo} signature was requested, but it is an {answer.algo} one")
        except FailedError as error:
            checks.append(Check(f"{algo} signature", Status.FAILED, str(error)))
            continue
        checks += check_signature(algo, answer, bodies)
        signers[algo] = answer.address
    if not all_hold(checks):
        proof = Proof(Evidence(bodies, statements), tuple(checks))
        raise not_holding("the signature of this response", checks, proof)
    return Signed(bodies, tuple(statements), tuple(checks), signers)


def _first(ids: Sequence[str], algo: SigningAlgo, model: str | None, delays: Iterator[float]) -> Steps[bytes]:
    yield StartDeadline()
    while True:
        reasons, again = [], False
        for response_id in ids:
            answer: Answer | FetchError = yield Get(signature_target(response_id, algo, model))
            if isinstance(answer, TookTooLongError):
                raise UnprovenError(f"the {algo} signature of this response could not be fetched: {answer}")
            if isinstance(answer, FetchError):
                reasons.append(str(answer))
                again = True
            elif answer.status == 200:
                return answer.body
            elif (told := why_not_signed(answer.status, answer.body, MAX_REASON)) is not None:
                raise UnprovenError(f"the server has no {algo} signature of this response: {told or 'no reason given'}")
            else:
                reasons.append(f"the signature endpoint returned {answer.status}")
                again = again or answer.status in _AGAIN
        delay = next(delays, None) if again else None
        if delay is None:
            raise UnprovenError(
                f"the {algo} signature of this response could not be fetched: {reasons[0]}. Is this a signing proxy,"
                " and does it accept the token for /signature?"
            )
        yield Wait(delay)
