"""The questions for signatures, and what is made of their answers, without a server."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attest_web.client.proving.errors import MismatchError, UnprovenError
from attest_web.client.proving.signing import DELAYS, Signed, signatures
from attest_web.client.proving.steps import Get, TookTooLongError, Wait
from attest_web.signatures import SigningAlgo
from attest_web.verify.primitives.http_client import Answer, FetchError
from attest_web.verify.signed_text import SignedBodies
from tests.attest_web.verify.minting import ALGOS, KEYS, OTHER_KEYS, REQUEST, RESPONSE, address, signature

BODIES = SignedBodies(REQUEST, RESPONSE)
IDS = ("rcpt-1", "chatcmpl-1")


class PendingRequest:
    """Takes the steps, and keeps what they were.

    Attributes:
        targets: What was asked for.
        waits: Seconds that were waited, each time.
    """

    def __init__(self, answer: Callable[[SigningAlgo, str], Answer | FetchError]) -> None:
        self.targets: list[str] = []
        self.waits: list[float] = []
        self._answer = answer

    def proven(self, bodies: SignedBodies = BODIES) -> Signed:
        steps, came = signatures(bodies, IDS, ALGOS, None), None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                signed: Signed = end.value
                return signed
            came = None
            if isinstance(step, Get):
                self.targets.append(step.target)
                algo: SigningAlgo = "ed25519" if step.target.endswith("=ed25519") else "ecdsa"
                came = self._answer(algo, step.target.split("/")[2].partition("?")[0])
            elif isinstance(step, Wait):
                self.waits.append(step.seconds)


def given(source: object) -> Answer:
    return Answer(200, {}, json.dumps(source).encode())


def truthfully(algo: SigningAlgo, _: str) -> Answer:
    return given(signature(algo))


def test_a_signature_of_each_algorithm_is_requested_by_the_best_id() -> None:
    asked = PendingRequest(truthfully)
    signed = asked.proven()
    assert signed.signers == {algo: address(KEYS, algo) for algo in ALGOS}
    assert asked.targets == [f"/signature/rcpt-1?signing_algo={algo}" for algo in ALGOS]
    assert asked.waits == []


@pytest.mark.parametrize("shown", ALGOS)
def test_signature_of_the_wrong_algorithm_raises_mismatch(shown: SigningAlgo) -> None:
    (wanted,) = set(ALGOS) - {shown}
    with pytest.raises(MismatchError, match=f"an {wanted} signature was requested, but it is an {shown} one"):
        PendingRequest(lambda *_: given(signature(shown))).proven()


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    ("bent", "why"),
    [
        ({"text": signature(model="m")["text"]}, "signature"),
        ({"signing_address": None}, "has no 'signing_address'"),
        ({"signature": "00"}, "signature"),
    ],
)
def test_a_signature_that_does_not_verify_is_reported_whichever_it_is(
    algo: SigningAlgo, bent: dict[str, Any], why: str
) -> None:
    with pytest.raises(MismatchError, match=why):
        PendingRequest(lambda asked, _: given(signature(asked) | (bent if asked == algo else {}))).proven()


def test_a_signature_of_other_bytes_is_reported() -> None:
    for bodies in (SignedBodies(REQUEST + b" ", RESPONSE), SignedBodies(REQUEST, RESPONSE[:-1])):
        with pytest.raises(MismatchError, match="is not what was signed"):
            PendingRequest(truthfully).proven(bodies)


def test_the_signer_of_each_algorithm_is_returned() -> None:
    signed = PendingRequest(lambda algo, _: given(signature(algo, OTHER_KEYS if algo == "ecdsa" else KEYS))).proven()
    assert signed.signers == {"ecdsa": address(OTHER_KEYS, "ecdsa"), "ed25519": address(KEYS, "ed25519")}


def test_a_missing_signature_is_requested_by_each_id_and_retried() -> None:
    late: Iterator[Answer | FetchError] = iter([Answer(404, {}, b"{}"), FetchError("reset"), Answer(503, {}, b"{}")])
    asked = PendingRequest(lambda algo, by: next(late, truthfully(algo, by)))
    asked.proven()
    ecdsa = [f"/signature/{one}?signing_algo=ecdsa" for one in IDS]
    assert asked.targets == [*ecdsa, *ecdsa, "/signature/rcpt-1?signing_algo=ed25519"]
    assert asked.waits == [DELAYS[0]]


def test_signature_that_never_arrives_fails_after_the_last_delay() -> None:
    asked = PendingRequest(lambda *_: Answer(404, {}, b"{}"))
    with pytest.raises(UnprovenError, match="returned 404"):
        asked.proven()
    assert asked.waits == list(DELAYS)
    assert len(asked.targets) == 2 * (len(DELAYS) + 1)


@pytest.mark.parametrize("status", [400, 401, 403, 405])
def test_a_permanent_refusal_is_not_retried(status: int) -> None:
    asked = PendingRequest(lambda *_: Answer(status, {}, b"{}"))
    with pytest.raises(UnprovenError, match=f"returned {status}"):
        asked.proven()
    assert (len(asked.targets), asked.waits) == (2, [])


def test_a_request_past_its_deadline_is_not_retried() -> None:
    asked = PendingRequest(lambda *_: TookTooLongError("slow"))
    with pytest.raises(UnprovenError, match="slow"):
        asked.proven()
    assert (len(asked.targets), asked.waits) == (1, [])
