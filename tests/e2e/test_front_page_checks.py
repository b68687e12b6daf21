"""The checks of the front page for signed exchanges, in a real browser: each kind of lie about a signature."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from attest_web.keys import SigningKeys
from attest_web.signatures import sign_text
from tests.e2e.front_page import flipped, marks, opened_modules

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
) -> Any:
    known = {
        "model": MODEL,
        "addresses": {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address},
        "attested": attested,
    }
    texts = [None if body is None else body.decode() for body in bodies]
    return page.evaluate(CHECK_EXCHANGE, [{algo: json.dumps(each) for algo, each in told.items()}, *texts, known])


@pytest.mark.parametrize("text", [HASHES, f"{MODEL}:{HASHES}"], ids=["hashes", "model"])
def test_a_true_exchange_holds(page: Page, keys: SigningKeys, text: str) -> None:
    found = check_exchange(page, keys, signatures(keys, text), attested={"ecdsa": True, "ed25519": True})
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("to exactly this request.")
    assert marks(found["checks"], "not made") == {"ecdsa signature"}
    found = check_exchange(page, keys, signatures(keys, text))
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("Whose they are, the attestation above tells.")
    assert marks(found["checks"], "not made") == {"ecdsa signature", "keys attested"}


@pytest.mark.parametrize("attested", [(True, False), (False, True), (False, False)])
def test_keys_that_no_quote_is_about_are_not_attested(
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
def test_what_was_not_given_is_not_said_to_match(
    page: Page, keys: SigningKeys, bodies: tuple[bytes | None, bytes | None], missing: str
) -> None:
    verdict = check_exchange(page, keys, signatures(keys), bodies)["verdict"]
    assert verdict["holds"] is None
    assert f"give {missing}" in verdict["text"]


def test_another_byte_does_not_match(page: Page, keys: SigningKeys) -> None:
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
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer"},
    ),
    "nothing": (
        lambda told: told.update(ecdsa=None, ed25519=None),
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer"},
    ),
}


@pytest.mark.parametrize("lie", SIGNATURE_LIES)
def test_a_lie_about_a_signature_is_found(page: Page, keys: SigningKeys, lie: str) -> None:
    tell, failing = SIGNATURE_LIES[lie]
    told = signatures(keys)
    tell(told)
    found = check_exchange(page, keys, told)
    assert marks(found["checks"], "fails") == failing
    assert found["verdict"]["holds"] is False
    assert all(name in found["verdict"]["text"] for name in failing)


def test_a_signature_for_another_model_is_found(page: Page, keys: SigningKeys) -> None:
    found = check_exchange(page, keys, signatures(keys, f"small/model:{HASHES}"))
    assert marks(found["checks"], "fails") == ALL_HASHES
    assert "small/model" in str(found["checks"])
