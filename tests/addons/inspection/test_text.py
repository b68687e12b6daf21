import json
from dataclasses import replace

import pytest

from addons.exchange.record import Exchange
from addons.exchange.usage import Usage
from addons.inspection.inspected_exchange import BodyFacts, InspectedExchange
from addons.inspection.text import check_lines, checks_of, comment_of, mark_of, notice_of, proof_lines
from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, SigningAlgo, sign_text, signed_text

REQUEST, RESPONSE = b"what was asked", b"what was answered"


def facts(body: bytes) -> BodyFacts:
    found = BodyFacts()
    found.add(body)
    found.complete = True
    return found


@pytest.fixture
def addresses(keys: SigningKeys) -> dict[SigningAlgo, str]:
    return {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}


@pytest.fixture
def exchange(keys: SigningKeys) -> InspectedExchange:
    """One that has been signed."""
    asked, answered = facts(REQUEST), facts(RESPONSE)
    signed = sign_text(keys, signed_text(asked.sha256, answered.sha256))
    known = Exchange(state="signed", receipt_id="rcpt-1", signed=signed)
    return InspectedExchange(known, "POST /v1/chat/completions", due=True, request=asked, response=answered)


def signed_otherwise(exchange: InspectedExchange, signed: SignedExchange) -> InspectedExchange:
    return replace(exchange, exchange=Exchange(state="signed", signed=signed))


def failed(exchange: InspectedExchange, addresses: dict[SigningAlgo, str]) -> set[str]:
    return {check.name for check in checks_of(exchange, addresses) if not check.holds}


def test_a_signed_exchange_verifies(exchange: InspectedExchange, addresses: dict[SigningAlgo, str]) -> None:
    assert failed(exchange, addresses) == set()
    assert proof_lines(exchange, addresses)[-1] == "verified: all 8 checks that could be made hold"


def test_other_bytes_do_not_verify(exchange: InspectedExchange, addresses: dict[SigningAlgo, str]) -> None:
    assert failed(replace(exchange, request=facts(b"x")), addresses) == {"ecdsa request hash", "ed25519 request hash"}
    cut = facts(RESPONSE)
    cut.complete = False
    assert failed(replace(exchange, response=cut), addresses) == {"ecdsa response hash", "ed25519 response hash"}


def test_other_signatures_do_not_verify(exchange: InspectedExchange, addresses: dict[SigningAlgo, str]) -> None:
    signed = exchange.exchange.signed
    assert signed is not None
    other = sign_text(SigningKeys.random(), signed["text"])
    assert failed(signed_otherwise(exchange, other), addresses) == {"ecdsa address", "ed25519 address"}
    mixed = signed.copy()
    mixed["signature_ecdsa"] = other["signature_ecdsa"]
    assert failed(signed_otherwise(exchange, mixed), addresses) == {"ecdsa signature", "ecdsa address"}
    lines = check_lines(checks_of(signed_otherwise(exchange, other), addresses))
    assert lines[-1] == "NOT verified: ecdsa address, ed25519 address"


def test_a_websocket_is_verified_but_for_the_hashes_that_nobody_has_measured(
    exchange: InspectedExchange, addresses: dict[SigningAlgo, str]
) -> None:
    websocket = replace(exchange, is_websocket=True, request=BodyFacts(), response=BodyFacts())
    lines = proof_lines(websocket, addresses)
    assert lines[-1] == "verified: all 4 checks that could be made hold"
    assert sum(line.startswith("– ") for line in lines) == 4  # noqa: RUF001
    assert not any(line.startswith("request  ") for line in lines)


def test_what_was_not_signed_is_not_verified(addresses: dict[SigningAlgo, str]) -> None:
    exchange = InspectedExchange(Exchange(), "POST /", due=True)
    assert check_lines(checks_of(exchange, addresses)) == ["NOT verified: there is no signature"]


def test_a_comment_is_one_line_whatever_is_in_it(exchange: InspectedExchange) -> None:
    known = Exchange(state="failed", reason="a\nb\x1b[31m" + "c" * 1000, receipt_id="rcpt-1", usage=Usage(None, 3))
    comment = comment_of(replace(exchange, exchange=known))
    assert comment.isprintable()
    assert len(comment) <= 300
    known.state = "signed"
    assert comment_of(replace(exchange, exchange=known, model="m")) == "signed · m · ? → 3 tokens · rcpt-1"


def test_what_is_never_signed_alarms_nobody(exchange: InspectedExchange) -> None:
    unsigned = replace(exchange, exchange=Exchange(), status=200)
    assert mark_of(unsigned) == ":warning:"
    assert mark_of(replace(unsigned, due=False)) == ":heavy_minus_sign:"


def test_a_notice_tells_the_hash_of_what_has_come_whole(exchange: InspectedExchange) -> None:
    assert json.loads(notice_of(exchange, exchange.request, "request", kept=False)) == {
        "withheld": "the request body",
        "why": "INSPECT_PLAINTEXT is off",
        "state": "signed",
        "bytes": len(REQUEST),
        "sha256": exchange.request.sha256,
    }
    exchange.request.complete = False
    told = json.loads(notice_of(exchange, exchange.request, "request", kept=True))
    assert "sha256" not in told
    assert told["why"] == "it is not there yet"
