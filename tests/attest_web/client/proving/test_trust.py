"""Which keys may sign: the pins, and the questions by which they come about, without a server."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from attest_web.attestation.report_data import NONCE_BYTES
from attest_web.client.proving.errors import MismatchError, UnprovenError
from attest_web.client.proving.steps import Get, RunBlocking
from attest_web.client.proving.trust import MAX_PINS, AttestedSigners, KnownSigners, Pin, RefusedError, the_report
from attest_web.keys import SigningKeys
from attest_web.signatures import SigningAlgo
from attest_web.verify.primitives.http_client import Answer
from tests.attest_web.client.signing_server import LENIENT
from tests.attest_web.verify.minting import ALGOS, KEYS, NONCE, OTHER_KEYS, SPKI, address, report

OTHER_SPKI = bytes(reversed(SPKI))
SIGNERS: Mapping[SigningAlgo, bytes] = {algo: address(KEYS, algo) for algo in ALGOS}
OTHER_SIGNERS: Mapping[SigningAlgo, bytes] = {algo: address(OTHER_KEYS, algo) for algo in ALGOS}
MIXED_SIGNERS: list[Mapping[SigningAlgo, bytes]] = [
    {"ecdsa": SIGNERS["ecdsa"], "ed25519": OTHER_SIGNERS["ed25519"]},
    {"ecdsa": OTHER_SIGNERS["ecdsa"], "ed25519": SIGNERS["ed25519"]},
]

Answers = Callable[[Get], Answer]


def attested_signers(*, tls: bool = True, send_token: bool = True) -> AttestedSigners:
    def nonce(size: int) -> bytes:
        assert size == NONCE_BYTES
        return NONCE

    return AttestedSigners(LENIENT, ALGOS, tls=tls, send_token=send_token, nonce=nonce)


def reports(
    spki: bytes | None = SPKI, keys: SigningKeys = KEYS, ed25519_keys: SigningKeys | None = None
) -> dict[SigningAlgo, dict[str, Any]]:
    return {
        "ecdsa": report("ecdsa", keys=keys, nonce=NONCE, spki=spki),
        "ed25519": report("ed25519", keys=ed25519_keys or keys, nonce=NONCE, spki=spki),
    }


def showing(shown: Mapping[SigningAlgo, dict[str, Any]], tls_key: bytes | None = None) -> Answers:
    """A server that shows these reports."""

    def answer(asked: Get) -> Answer:
        algo: SigningAlgo = "ecdsa" if "signing_algo=ecdsa" in asked.target else "ed25519"
        return Answer(200, {}, json.dumps(shown[algo]).encode(), tls_key)

    return answer


def pin(
    trust: AttestedSigners, answer: Answers, signers: Mapping[SigningAlgo, bytes] | None, tls_key: bytes | None
) -> Pin:
    """Take the steps to a pin; each question is answered at once."""
    steps, came = trust.pin(signers, tls_key, None), None
    while True:
        try:
            step = steps.send(came)
        except StopIteration as end:
            pinned: Pin = end.value
            return pinned
        came = None
        if isinstance(step, Get):
            came = answer(step)
        elif isinstance(step, RunBlocking):
            came = step.call()


def test_pin_matches_only_its_own_signers_and_tls_key() -> None:
    trust = attested_signers()
    assert trust.find(SIGNERS, SPKI) is None
    made = pin(trust, showing(reports()), SIGNERS, SPKI)
    assert trust.find(SIGNERS, SPKI) is made
    assert trust.find(SIGNERS, OTHER_SPKI) is None
    assert trust.find(OTHER_SIGNERS, SPKI) is None
    assert [trust.find(mixed, SPKI) for mixed in MIXED_SIGNERS] == [None, None]
    assert trust.find({"ecdsa": SIGNERS["ecdsa"]}, SPKI) is None


def test_pin_with_tls_binding_does_not_match_a_connection_without_a_tls_key() -> None:
    trust = attested_signers()
    pin(trust, showing(reports()), SIGNERS, SPKI)
    assert trust.find(SIGNERS, None) is None
    assert trust.attested(SIGNERS, None) is None


def test_pin_without_tls_binding_ignores_the_tls_key() -> None:
    trust = attested_signers(tls=False)
    made = pin(trust, showing(reports(None)), SIGNERS, None)
    assert trust.find(SIGNERS, None) is trust.find(SIGNERS, SPKI) is made
    assert trust.tls_keys == frozenset()


def test_the_tls_keys_are_those_of_all_pins() -> None:
    trust = attested_signers()
    assert not trust.settled
    assert trust.tls_keys == frozenset()
    pin(trust, showing(reports(), SPKI), None, None)
    assert trust.settled
    assert trust.tls_keys == frozenset({SPKI})
    pin(trust, showing(reports(OTHER_SPKI)), None, OTHER_SPKI)
    assert trust.tls_keys == frozenset({SPKI, OTHER_SPKI})


def test_attested_lookup_returns_the_newest_pin_of_the_tls_key() -> None:
    trust = attested_signers()
    one = pin(trust, showing(reports()), None, SPKI)
    other = pin(trust, showing(reports(OTHER_SPKI, OTHER_KEYS)), None, OTHER_SPKI)
    assert trust.attested(None, SPKI) is one
    assert trust.attested(None, OTHER_SPKI) is trust.attested(None, None) is other
    assert trust.attested(None, bytes(32)) is None
    assert trust.attested(SIGNERS, SPKI) is one


def test_a_report_about_another_tls_key_than_the_connections_is_not_pinned() -> None:
    trust = attested_signers()
    for tls_key, answers in ((OTHER_SPKI, showing(reports())), (None, showing(reports(), OTHER_SPKI))):
        with pytest.raises(MismatchError, match="TLS key"):
            pin(trust, answers, SIGNERS, tls_key)
    assert not trust.settled


def test_reports_over_connections_to_two_tls_keys_are_not_pinned() -> None:
    shown = reports()

    def answer(asked: Get) -> Answer:
        return showing(shown, SPKI if "signing_algo=ecdsa" in asked.target else OTHER_SPKI)(asked)

    with pytest.raises(MismatchError, match="TLS key"):
        pin(attested_signers(), answer, None, None)


@pytest.mark.parametrize(
    "shown",
    [reports(keys=OTHER_KEYS), reports(keys=OTHER_KEYS, ed25519_keys=KEYS), reports(ed25519_keys=OTHER_KEYS)],
    ids=["both", "ecdsa", "ed25519"],
)
def test_report_about_another_key_than_the_signer_is_not_pinned(
    shown: dict[SigningAlgo, dict[str, Any]],
) -> None:
    trust = attested_signers()
    with pytest.raises(MismatchError, match="about another key than the one that has signed"):
        pin(trust, showing(shown), SIGNERS, SPKI)
    assert not trust.settled


def test_pins_over_the_maximum_evict_the_oldest() -> None:
    trust = attested_signers()
    keys = [bytes([number]) * 32 for number in range(1, MAX_PINS + 2)]
    for key in keys:
        pin(trust, showing(reports(key)), SIGNERS, key)
    assert trust.tls_keys == frozenset(keys[1:])
    assert trust.find(SIGNERS, keys[0]) is None
    assert trust.find(SIGNERS, keys[1]) is not None


@pytest.mark.parametrize("status", [401, 403])
def test_token_is_sent_only_after_a_401_or_403_to_a_report_request(status: int) -> None:
    asked: list[tuple[str, bool]] = []
    shown = showing(reports())

    def answer(question: Get) -> Answer:
        assert question.about_keys
        asked.append(("ecdsa" if "=ecdsa" in question.target else "ed25519", question.with_token))
        return shown(question) if question.with_token else Answer(status, {}, b"{}")

    pin(attested_signers(), answer, SIGNERS, SPKI)
    assert asked == [("ecdsa", False), ("ecdsa", True), ("ed25519", False), ("ed25519", True)]
    asked.clear()
    with pytest.raises(UnprovenError, match="ATTESTATION_PUBLIC=1"):
        pin(attested_signers(send_token=False), answer, SIGNERS, SPKI)
    assert asked == [("ecdsa", False)]


def test_token_is_not_sent_to_a_server_with_public_reports() -> None:
    asked: list[bool] = []

    def answer(question: Get) -> Answer:
        asked.append(question.with_token)
        return showing(reports())(question)

    pin(attested_signers(), answer, SIGNERS, SPKI)
    assert asked == [False, False]


def test_a_refused_report_is_an_error_with_its_status() -> None:
    with pytest.raises(RefusedError, match="returned 503") as caught:
        pin(attested_signers(), lambda _: Answer(503, {}, b"busy"), SIGNERS, SPKI)
    assert caught.value.answer.status == 503


def test_gateways_report_list_yields_the_report_about_the_signing_key() -> None:
    gathered = [report("ecdsa", keys=keys) for keys in (OTHER_KEYS, KEYS)]
    body = json.dumps({"model_attestations": gathered}).encode()
    for keys, expected in ((OTHER_KEYS, gathered[0]), (KEYS, gathered[1])):
        for spelled in (keys.ecdsa_address, keys.ecdsa_address.lower()):
            assert json.loads(the_report(body, spelled)) == expected
    assert json.loads(the_report(body, None)) == gathered[0]
    assert the_report(body, "0x" + "00" * 20) == body
    assert the_report(json.dumps(gathered[0]).encode(), KEYS.ecdsa_address) == json.dumps(gathered[0]).encode()


def test_known_signers_match_only_if_every_signer_is_known() -> None:
    trust = KnownSigners([KEYS.ecdsa_address, KEYS.ed25519_address])
    found = trust.find(SIGNERS, None)
    assert found is not None
    assert found.signers == SIGNERS
    assert trust.find({"ecdsa": SIGNERS["ecdsa"]}, SPKI) is not None
    for unknown in (*MIXED_SIGNERS, OTHER_SIGNERS, {}):
        assert trust.find(unknown, None) is None
        assert trust.attested(unknown, None) is None
