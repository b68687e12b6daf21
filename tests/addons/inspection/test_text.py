import json

import pytest

from addons.exchange.body_digest import BodyDigest
from addons.exchange.flow_facts import FlowFacts
from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route
from addons.exchange.usage import Usage
from addons.inspection.inspected_flow import InspectedFlow
from addons.inspection.text import check_lines, checks_of, comment_of, mark_of, notice_of, proof_lines
from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, SigningAlgo, sign_text, signed_text

SIGNED, PASSED = Route(Kind.SIGNED), Route(Kind.PASSED)
REQUEST, RESPONSE = b"what was asked", b"what was answered"


def digest(body: bytes) -> BodyDigest:
    found = BodyDigest()
    found.add(body)
    found.end()
    return found


@pytest.fixture
def addresses(keys: SigningKeys) -> dict[SigningAlgo, str]:
    return {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}


@pytest.fixture
def inspected(keys: SigningKeys) -> InspectedFlow:
    """A flow whose exchange has been signed."""
    facts = FlowFacts("POST /v1/chat/completions", request=digest(REQUEST), response=digest(RESPONSE))
    signed = sign_text(keys, signed_text(facts.request.hex(), facts.response.hex()))
    return InspectedFlow(Exchange(SIGNED, state="signed", receipt_id="rcpt-1", signed=signed), facts)


def signed_otherwise(inspected: InspectedFlow, signed: SignedExchange) -> InspectedFlow:
    return InspectedFlow(Exchange(SIGNED, state="signed", signed=signed), inspected.facts)


def failed(inspected: InspectedFlow, addresses: dict[SigningAlgo, str]) -> set[str]:
    return {check.name for check in checks_of(inspected, addresses) if not check.holds}


def test_checks_of_a_signed_exchange_all_hold(inspected: InspectedFlow, addresses: dict[SigningAlgo, str]) -> None:
    assert failed(inspected, addresses) == set()
    assert proof_lines(inspected, addresses)[-1] == "verified: all 8 checks that could be made hold"


def test_checks_of_a_different_or_incomplete_body_fail_on_its_hash(
    inspected: InspectedFlow, addresses: dict[SigningAlgo, str]
) -> None:
    inspected.facts.request = digest(b"x")
    assert failed(inspected, addresses) == {"ecdsa request hash", "ed25519 request hash"}
    inspected.facts.request = digest(REQUEST)
    inspected.facts.response.complete = False
    assert failed(inspected, addresses) == {"ecdsa response hash", "ed25519 response hash"}


def test_checks_of_another_keys_signature_fail_on_signature_or_address(
    inspected: InspectedFlow, addresses: dict[SigningAlgo, str]
) -> None:
    signed = inspected.exchange.signed
    assert signed is not None
    other = sign_text(SigningKeys.random(), signed["text"])
    assert failed(signed_otherwise(inspected, other), addresses) == {"ecdsa address", "ed25519 address"}
    mixed = signed.copy()
    mixed["signature_ecdsa"] = other["signature_ecdsa"]
    assert failed(signed_otherwise(inspected, mixed), addresses) == {"ecdsa signature", "ecdsa address"}
    lines = check_lines(checks_of(signed_otherwise(inspected, other), addresses))
    assert lines[-1] == "NOT verified: ecdsa address, ed25519 address"


def test_a_websocket_is_verified_except_for_hashes_that_were_not_measured(
    inspected: InspectedFlow, addresses: dict[SigningAlgo, str]
) -> None:
    inspected.exchange.upstream_status = 101
    inspected.facts.request, inspected.facts.response = BodyDigest(), BodyDigest()
    lines = proof_lines(inspected, addresses)
    assert lines[-1] == "verified: all 4 checks that could be made hold"
    assert sum(line.startswith("– ") for line in lines) == 4  # noqa: RUF001
    assert not any(line.startswith("request  ") for line in lines)


def test_checks_of_an_unsigned_exchange_report_no_signature(addresses: dict[SigningAlgo, str]) -> None:
    inspected = InspectedFlow(Exchange(SIGNED), FlowFacts("POST /"))
    assert check_lines(checks_of(inspected, addresses)) == ["NOT verified: there is no signature"]


def test_comment_is_one_printable_line_of_bounded_length(inspected: InspectedFlow) -> None:
    known = inspected.exchange
    known.state, known.reason, known.usage = "failed", "a\nb\x1b[31m" + "c" * 1000, Usage(None, 3)
    comment = comment_of(inspected)
    assert comment.isprintable()
    assert len(comment) <= 300
    known.state, inspected.facts.model = "signed", "m"
    assert comment_of(inspected) == "signed · m · ? → 3 tokens · rcpt-1"


def test_an_exchange_that_is_never_signed_is_not_marked_as_failed() -> None:
    marks = []
    for route in (SIGNED, PASSED):
        exchange = Exchange(route, upstream_status=200, status=200)
        marks.append(mark_of(InspectedFlow(exchange, FlowFacts("POST /", ended=True))))
    assert marks == [":warning:", ":heavy_minus_sign:"]


def test_notice_has_the_sha256_of_a_complete_body_only(inspected: InspectedFlow) -> None:
    assert json.loads(notice_of(inspected, "request", kept=False)) == {
        "withheld": "the request body",
        "why": "INSPECT_PLAINTEXT is off",
        "state": "signed",
        "bytes": len(REQUEST),
        "sha256": inspected.facts.request.hex(),
    }
    inspected.facts.request.complete = False
    told = json.loads(notice_of(inspected, "request", kept=True))
    assert "sha256" not in told
    assert told["why"] == "it is not there yet"
