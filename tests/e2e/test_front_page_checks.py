"""The checks of the front page for signed exchanges, in a real browser: each kind of lie about a signature."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from attest_web.keys import SigningKeys
from attest_web.signatures import sign_text
from tests.e2e.support.front_page import flipped, marks, opened_modules

MODEL = "org/model"
REQUEST, RESPONSE = b'{"a request"}', b'{"a response"}'
HASHES = ":".join(hashlib.sha256(body).hexdigest() for body in (REQUEST, RESPONSE))

CHECK_EXCHANGE = """async ([signatures, request, response, known]) => {
  const { checkExchange } = await import("/proof-page/exchange.js")
  const bytes = (text) => text === null ? null : new TextEncoder().encode(text)
  return checkExchange(signatures, bytes(request), bytes(response), known)
}"""

Told = dict[str, Any]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


def signatures(keys: SigningKeys, text: str = HASHES) -> Told:
    """What the server answers for each algorithm."""
    signed = sign_text(keys, text)
    return {
        "ecdsa": {
            "text": text,
            "signature": signed["signature_ecdsa"],
            "signing_address": signed["signing_address_ecdsa"],
            "signing_algo": "ecdsa",
        },
        "ed25519": {
            "text": text,
            "signature": signed["signature_ed25519"],
            "signing_address": signed["signing_address_ed25519"],
            "signing_algo": "ed25519",
        },
    }


def check_exchange(
    page: Page,
    keys: SigningKeys,
    told: Told,
    bodies: tuple[bytes | None, bytes | None] = (REQUEST, RESPONSE),
    attested: Mapping[str, bool] | None = None,
    *,
    dev: bool = False,
) -> Any:
    known = {
        "dev": dev,
        "model": MODEL,
        "addresses": {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address},
        "attested": attested,
    }
    texts = [None if body is None else body.decode() for body in bodies]
    answers = {algo: each if isinstance(each, str) else json.dumps(each) for algo, each in told.items()}
    return page.evaluate(CHECK_EXCHANGE, [answers, *texts, known])


@pytest.mark.parametrize("text", [HASHES, f"{MODEL}:{HASHES}"], ids=["hashes", "model"])
def test_valid_exchange_holds_with_and_without_attested_keys(page: Page, keys: SigningKeys, text: str) -> None:
    found = check_exchange(page, keys, signatures(keys, text), attested={"ecdsa": True, "ed25519": True})
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("to exactly this request.")
    assert marks(found["checks"], "not made") == {"ecdsa signature"}
    found = check_exchange(page, keys, signatures(keys, text))
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("Whose they are, the attestation above tells.")
    assert marks(found["checks"], "not made") == {"ecdsa signature", "keys attested"}


@pytest.mark.parametrize("attested", [(True, False), (False, True), (False, False)])
def test_keys_bound_to_no_quote_fail_the_attested_keys_check(
    page: Page, keys: SigningKeys, attested: tuple[bool, bool]
) -> None:
    bound = {"ecdsa": attested[0], "ed25519": attested[1]}
    found = check_exchange(page, keys, signatures(keys), attested=bound)
    assert marks(found["checks"], "fails") == {"keys attested"}
    assert found["verdict"]["holds"] is False


@pytest.mark.parametrize(
    ("bodies", "missing"),
    [((REQUEST, None), "the response"), ((None, RESPONSE), "the request"), ((None, None), "the request and the resp")],
)
def test_missing_body_leaves_the_verdict_open_and_is_asked_for(
    page: Page, keys: SigningKeys, bodies: tuple[bytes | None, bytes | None], missing: str
) -> None:
    verdict = check_exchange(page, keys, signatures(keys), bodies)["verdict"]
    assert verdict["holds"] is None
    assert f"give {missing}" in verdict["text"]


def test_changed_or_swapped_bodies_fail_their_hash_checks(page: Page, keys: SigningKeys) -> None:
    for bodies, name in (((REQUEST + b" ", RESPONSE), "request hash"), ((REQUEST, RESPONSE[:-1]), "response hash")):
        found = check_exchange(page, keys, signatures(keys), bodies)
        assert (marks(found["checks"], "fails"), found["verdict"]["holds"]) == ({name}, False)
    swapped = check_exchange(page, keys, signatures(keys), (RESPONSE, REQUEST))
    assert marks(swapped["checks"], "fails") == {"request hash", "response hash"}


ALL_HASHES = {"signed text", "request hash", "response hash"}
THEIR_OWN = SigningKeys.from_secrets(b"\1" * 32, b"\2" * 32)

SIGNATURE_LIES: dict[str, tuple[Callable[[Told], object], set[str]]] = {
    "text": (
        lambda told: [each.update(text=flipped(each["text"], 3)) for each in told.values()],
        {"request hash", "ed25519 signature"},
    ),
    "text of one": (
        lambda told: told["ecdsa"].update(text=flipped(told["ecdsa"]["text"], 3)),
        ALL_HASHES,
    ),
    "signature": (
        lambda told: told["ed25519"].update(signature=flipped(told["ed25519"]["signature"], 70)),
        {"ed25519 signature"},
    ),
    "short signature": (lambda told: told["ed25519"].update(signature="00"), {"ed25519 signature"}),
    "other keys": (lambda told: told.update(signatures(THEIR_OWN)), {"ed25519 signature", "ecdsa signer"}),
    "other keys, these names": (
        lambda told: told["ed25519"].update(signature=signatures(THEIR_OWN)["ed25519"]["signature"]),
        {"ed25519 signature"},
    ),
    "more than hashes": (
        lambda told: [each.update(text=each["text"] + "0") for each in told.values()],
        {*ALL_HASHES, "ed25519 signature"},
    ),
    "rubbish": (
        lambda told: [each.update(text=["?"], signature=7, signing_address=None) for each in told.values()],
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer", "ecdsa signature"},
    ),
    "nothing": (
        lambda told: told.update(ecdsa=None, ed25519=None),
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer", "ecdsa signature"},
    ),
    "two texts": (
        lambda told: told.update(ed25519='{"text": "other", ' + json.dumps(told["ed25519"])[1:]),
        {*ALL_HASHES, "ed25519 signature"},
    ),
    "two texts, one with an escape in its name": (
        lambda told: told.update(ecdsa='{"te\\u0078t": "other", ' + json.dumps(told["ecdsa"])[1:]),
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer", "ecdsa signature"},
    ),
    "another spelling of the key": (
        lambda told: told["ed25519"].update(signing_address=told["ed25519"]["signing_address"].upper()),
        {"ed25519 signature"},
    ),
}


@pytest.mark.parametrize("lie", SIGNATURE_LIES)
def test_tampered_signature_fails_the_affected_checks(page: Page, keys: SigningKeys, lie: str) -> None:
    tell, failing = SIGNATURE_LIES[lie]
    told = signatures(keys)
    tell(told)
    found = check_exchange(page, keys, told)
    assert marks(found["checks"], "fails") == failing
    assert found["verdict"]["holds"] is False
    assert all(name in found["verdict"]["text"] for name in failing)


ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
HALF = ORDER // 2


def ecdsa_signature(r: int, s: int, v: int = 27) -> str:
    return f"0x{r:064x}{s:064x}{v:02x}"


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (ecdsa_signature(1, HALF + 1), "its s is high"),
        (ecdsa_signature(1, ORDER - 1), "its s is high"),
        (ecdsa_signature(1, ORDER), "its s is not between 1"),
        (ecdsa_signature(1, 0), "its s is not between 1"),
        (ecdsa_signature(0, 1), "its r is not between 1"),
        (ecdsa_signature(ORDER, 1), "its r is not between 1"),
        (ecdsa_signature(1, 1, 0), "27 or 28"),
        *((ecdsa_signature(1, 1, v), "27 or 28") for v in (26, 29, 30)),
        (ecdsa_signature(1, 1) + "00", "27 or 28"),
        (ecdsa_signature(1, 1)[2:], "27 or 28"),
        (ecdsa_signature(1, HALF).upper().replace("X", "x"), "lower-case"),
        (ecdsa_signature(1, 1) + "\n", "lower-case"),
        ([ecdsa_signature(1, 1)], "lower-case"),
    ],
)
def test_malformed_ecdsa_signature_is_refused_with_a_reason(
    page: Page, keys: SigningKeys, signature: Any, why: str
) -> None:
    told = signatures(keys)
    told["ecdsa"]["signature"] = signature
    found = check_exchange(page, keys, told)
    assert marks(found["checks"], "fails") == {"ecdsa signature"}
    assert [why in check["detail"] for check in found["checks"] if check["name"] == "ecdsa signature"] == [True]
    assert found["verdict"]["holds"] is False


@pytest.mark.parametrize("signature", [ecdsa_signature(1, HALF, 28), ecdsa_signature(ORDER - 1, 1)])
def test_well_formed_ecdsa_signature_is_left_unchecked_for_tee_verify(
    page: Page, keys: SigningKeys, signature: str
) -> None:
    told = signatures(keys)
    told["ecdsa"]["signature"] = signature
    found = check_exchange(page, keys, told)
    assert "ecdsa signature" in marks(found["checks"], "not made")


def test_high_s_variant_of_a_valid_ecdsa_signature_is_refused(page: Page, keys: SigningKeys) -> None:
    told = signatures(keys)
    raw = bytes.fromhex(told["ecdsa"]["signature"][2:])
    told["ecdsa"]["signature"] = ecdsa_signature(
        int.from_bytes(raw[:32]), ORDER - int.from_bytes(raw[32:64]), 27 + 28 - raw[64]
    )
    assert marks(check_exchange(page, keys, told)["checks"], "fails") == {"ecdsa signature"}


@pytest.mark.parametrize("attested", [None, {"ecdsa": False, "ed25519": False}])
def test_development_run_matching_response_holds_with_keys_not_attested(
    page: Page, keys: SigningKeys, attested: dict[str, bool] | None
) -> None:
    found = check_exchange(page, keys, signatures(keys), attested=attested, dev=True)
    assert found["verdict"]["holds"] is True
    assert "nothing vouches for the keys" in found["verdict"]["text"]
    assert marks(found["checks"], "not made") == {"ecdsa signature", "keys attested"}
    found = check_exchange(page, keys, signatures(keys), (REQUEST, REQUEST), attested=attested, dev=True)
    assert (marks(found["checks"], "fails"), found["verdict"]["holds"]) == ({"response hash"}, False)


def test_signature_for_another_model_fails_the_hash_checks(page: Page, keys: SigningKeys) -> None:
    found = check_exchange(page, keys, signatures(keys, f"small/model:{HASHES}"))
    assert marks(found["checks"], "fails") == ALL_HASHES
    assert "small/model" in str(found["checks"])
