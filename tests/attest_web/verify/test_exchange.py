import json

import pytest

from attest_web.signatures import SigningAlgo
from attest_web.verify.checks import FailedError, Status
from attest_web.verify.exchange import Exchange, SignatureAnswer, check_signature, signed_hashes
from tests.attest_web.verify.minting import ALGOS, KEYS, OTHER_KEYS, REQUEST, RESPONSE, VECTORS, signature


def statuses(answer: dict[str, str], request: bytes = REQUEST, response: bytes = RESPONSE) -> list[Status]:
    parsed = SignatureAnswer.parse(json.dumps(answer).encode())
    return [check.status for check in check_signature(parsed.algo, parsed, Exchange(request, response))]


GOOD, BAD = Status.PASSED, Status.FAILED


@pytest.mark.parametrize("algo", ALGOS)
def test_the_vectors_signature_holds(algo: SigningAlgo) -> None:
    name = f"signature_{algo}"
    address = VECTORS["ecdsa_address"] if algo == "ecdsa" else VECTORS["ed25519_public_key"]
    answer = {"text": VECTORS["text"], "signature": VECTORS[name], "signing_address": address, "signing_algo": algo}
    assert statuses(answer) == [GOOD, GOOD, GOOD]


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("model", ["demo", "org/model:v1:latest", ""])
def test_a_model_name_in_front_is_fine_whatever_colons_it_has(algo: SigningAlgo, model: str) -> None:
    assert statuses(signature(algo, model=model)) == [GOOD, GOOD, GOOD]


@pytest.mark.parametrize("algo", ALGOS)
def test_a_changed_byte_is_told_by_where_it_is(algo: SigningAlgo) -> None:
    assert statuses(signature(algo), request=REQUEST[:-1] + b"!") == [BAD, GOOD, GOOD]
    assert statuses(signature(algo), response=RESPONSE + b"\n") == [GOOD, BAD, GOOD]
    swapped = signature(algo) | {"text": ":".join(reversed(VECTORS["text"].split(":")))}
    assert statuses(swapped) == [BAD, BAD, BAD]


@pytest.mark.parametrize("algo", ALGOS)
def test_somebody_elses_signature_fails(algo: SigningAlgo) -> None:
    ours, theirs = signature(algo), signature(algo, OTHER_KEYS)
    assert statuses(ours | {"signature": theirs["signature"]})[2] is BAD
    assert statuses(ours | {"signing_address": theirs["signing_address"]})[2] is BAD


@pytest.mark.parametrize("algo", ALGOS)
def test_every_flipped_byte_of_a_signature_is_caught(algo: SigningAlgo) -> None:
    answer = signature(algo)
    prefix = "0x" if algo == "ecdsa" else ""
    raw = bytes.fromhex(answer["signature"].removeprefix("0x"))
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        assert statuses(answer | {"signature": prefix + flipped.hex()})[2] is BAD, place


def test_an_address_may_be_in_any_case() -> None:
    lower = signature() | {"signing_address": "0x" + KEYS.ecdsa_address[2:].lower()}
    assert statuses(lower) == [GOOD, GOOD, GOOD]


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "0x"},
        {"signature": "0x" + "0" * 130},
        {"signature": "0x" + "f" * 128 + "1b"},
        {"signature": "0x" + "ab " * 65},
        {"signature": signature()["signature"][2:]},
        {"signing_address": "0x12"},
        {"signing_address": KEYS.ecdsa_address[2:]},
        {"signing_algo": "rsa"},
        {"signing_algo": None},
        {"text": 7},
        {"text": "\ud800"},
        {"text": "no hashes"},
        {"text": ""},
    ],
)
def test_a_malformed_answer_never_holds(change: dict[str, object]) -> None:
    try:
        answer = SignatureAnswer.parse(json.dumps(signature() | change).encode())
    except FailedError:
        return
    assert BAD in [check.status for check in check_signature("x", answer, Exchange(REQUEST, RESPONSE))]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 200_000, b'{"text":' + b"9" * 5000 + b"}"])
def test_what_is_no_answer_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(FailedError):
        SignatureAnswer.parse(body)


def test_two_members_of_one_name_are_refused() -> None:
    whole = json.dumps(signature())
    for twice in (whole[:-1] + ', "text": "a:b"}', whole[:-1] + ', "more": [{"a": 1, "a": 1}]}'):
        with pytest.raises(FailedError, match="more than one"):
            SignatureAnswer.parse(twice.encode())


def test_an_ed25519_key_of_small_order_signs_nothing() -> None:
    # With the neutral element as key, a signature of itself and zero fits every message.
    neutral = "01" + "00" * 31
    answer = signature("ed25519") | {"signing_address": neutral, "signature": neutral + "00" * 32}
    assert statuses(answer)[2] is BAD


def test_hashes_are_the_last_two_parts() -> None:
    assert signed_hashes("a:b") == ("a", "b", None)
    assert signed_hashes("m:x:a:b") == ("a", "b", "m:x")
    with pytest.raises(FailedError):
        signed_hashes("a")
