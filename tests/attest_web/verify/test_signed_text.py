import json

import coincurve
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attest_web.signatures import SigningAlgo, eip191_hash, signed_text
from attest_web.verify.primitives.checks import FailedError, Status
from attest_web.verify.primitives.secp256k1 import ORDER
from attest_web.verify.signed_text import SignatureAnswer, SignedBodies, address_bytes, check_signature, signed_hashes
from tests.attest_web.verify.minting import ALGOS, KEYS, OTHER_KEYS, REQUEST, RESPONSE, VECTORS, signature
from tests.support.verification import sha256


def statuses(answer: dict[str, str], request: bytes = REQUEST, response: bytes = RESPONSE) -> list[Status]:
    parsed = SignatureAnswer.parse(json.dumps(answer).encode())
    return [check.status for check in check_signature(parsed.algo, parsed, SignedBodies(request, response))]


GOOD, BAD = Status.PASSED, Status.FAILED


@pytest.mark.parametrize("algo", ALGOS)
def test_signature_of_the_vectors_is_valid(algo: SigningAlgo) -> None:
    name = f"signature_{algo}"
    address = VECTORS["ecdsa_address"] if algo == "ecdsa" else VECTORS["ed25519_public_key"]
    answer = {"text": VECTORS["text"], "signature": VECTORS[name], "signing_address": address, "signing_algo": algo}
    assert statuses(answer) == [GOOD, GOOD, GOOD]


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("model", ["demo", "org/model:v1:latest", ""])
def test_signed_text_with_a_model_name_is_accepted_whatever_colons_it_has(algo: SigningAlgo, model: str) -> None:
    assert statuses(signature(algo, model=model)) == [GOOD, GOOD, GOOD]


@pytest.mark.parametrize("algo", ALGOS)
def test_a_changed_byte_fails_the_check_of_its_body(algo: SigningAlgo) -> None:
    assert statuses(signature(algo), request=REQUEST[:-1] + b"!") == [BAD, GOOD, GOOD]
    assert statuses(signature(algo), response=RESPONSE + b"\n") == [GOOD, BAD, GOOD]
    swapped = signature(algo) | {"text": ":".join(reversed(VECTORS["text"].split(":")))}
    assert statuses(swapped) == [BAD, BAD, BAD]


@pytest.mark.parametrize("algo", ALGOS)
def test_a_signature_by_another_key_fails(algo: SigningAlgo) -> None:
    ours, theirs = signature(algo), signature(algo, OTHER_KEYS)
    assert statuses(ours | {"signature": theirs["signature"]})[2] is BAD
    assert statuses(ours | {"signing_address": theirs["signing_address"]})[2] is BAD


@pytest.mark.parametrize("algo", ALGOS)
def test_signature_with_a_flipped_byte_fails(algo: SigningAlgo) -> None:
    answer = signature(algo)
    prefix = "0x" if algo == "ecdsa" else ""
    raw = bytes.fromhex(answer["signature"].removeprefix("0x"))
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        assert statuses(answer | {"signature": prefix + flipped.hex()})[2] is BAD, place


@pytest.mark.parametrize("algo", ALGOS)
def test_every_flipped_byte_of_an_address_is_caught(algo: SigningAlgo) -> None:
    answer = signature(algo)
    prefix = "0x" if algo == "ecdsa" else ""
    raw = bytes.fromhex(answer["signing_address"].removeprefix("0x"))
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        assert statuses(answer | {"signing_address": prefix + flipped.hex()}) == [GOOD, GOOD, BAD], place


def with_scalars(r: int, s: int, v: int) -> str:
    return f"0x{r:064x}{s:064x}{v:02x}"


def ecdsa_scalars() -> tuple[int, int, int]:
    raw = bytes.fromhex(signature()["signature"][2:])
    return int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]), raw[64]


def ecdsa_detail(text: str) -> str:
    """What is said of this ECDSA signature of the vectors' text, which must not hold."""
    answer = SignatureAnswer.parse(json.dumps(signature() | {"signature": text}).encode())
    check = check_signature("ecdsa", answer, SignedBodies(REQUEST, RESPONSE))[2]
    assert check.status is BAD
    return check.detail


def test_ecdsa_signature_with_a_high_s_is_refused() -> None:
    r, s, v = ecdsa_scalars()
    twin = with_scalars(r, ORDER - s, 27 + 28 - v)
    raw = bytes.fromhex(twin[2:-2]) + bytes([27 + 28 - v - 27])
    found = coincurve.PublicKey.from_signature_and_message(raw, eip191_hash(VECTORS["text"].encode()), hasher=None)
    assert found == KEYS.ecdsa.public_key, "ECDSA itself takes it"
    assert "s is high" in ecdsa_detail(twin)


@pytest.mark.parametrize("value", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_ecdsa_signature_with_scalars_out_of_range_is_refused(value: int) -> None:
    r, s, v = ecdsa_scalars()
    assert "r is not between 1 and the order" in ecdsa_detail(with_scalars(value, s, v))
    assert "s is not between 1 and the order" in ecdsa_detail(with_scalars(r, value, v))


@pytest.mark.parametrize("v", [0, 1, 2, 3, 26, 29, 30, 35, 36, 37, 255])
def test_ecdsa_signature_v_must_be_27_or_28(v: int) -> None:
    r, s, _ = ecdsa_scalars()
    assert f"v of the ECDSA signature is {v}, neither 27 nor 28" in ecdsa_detail(with_scalars(r, s, v))


@settings(deadline=None)
@given(r=st.integers(0, 2**256 - 1), s=st.integers(0, 2**256 - 1), v=st.integers(0, 255))
def test_ecdsa_signature_with_any_other_scalars_fails(r: int, s: int, v: int) -> None:
    assume((r, s, v) != ecdsa_scalars())
    assert ecdsa_detail(with_scalars(r, s, v))


def test_ethereum_address_must_have_one_case_or_a_valid_checksum() -> None:
    checksummed = KEYS.ecdsa_address[2:]
    for good in (checksummed, checksummed.lower(), checksummed.upper()):
        assert statuses(signature() | {"signing_address": f"0x{good}"}) == [GOOD, GOOD, GOOD]
    for bad in (f"0x{checksummed.swapcase()}", f"0X{checksummed}"):
        with pytest.raises(FailedError, match=r"EIP-55|begins with 0x"):
            SignatureAnswer.parse(json.dumps(signature() | {"signing_address": bad}).encode())


@pytest.mark.parametrize("algo", ALGOS)
def test_signature_in_another_spelling_is_refused(algo: SigningAlgo) -> None:
    true = signature(algo)["signature"]
    prefix, digits = (true[:2], true[2:]) if algo == "ecdsa" else ("", true)
    for other in (
        *(prefix + digits.upper(), f"0X{digits}", digits if prefix else f"0x{digits}", true + "00", true[:-2]),
        *(f" {true}", f"{true} ", f"{true}\n", true[:-1] + "\N{FULLWIDTH DIGIT ONE}"),
    ):
        with pytest.raises(FailedError):
            SignatureAnswer.parse(json.dumps(signature(algo) | {"signature": other}).encode())


def test_ed25519_address_in_upper_case_is_refused() -> None:
    with pytest.raises(FailedError, match="lower case"):
        address_bytes("ed25519", KEYS.ed25519_address.upper())


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
def test_malformed_signature_response_never_passes(change: dict[str, object]) -> None:
    try:
        answer = SignatureAnswer.parse(json.dumps(signature() | change).encode())
    except FailedError:
        return
    assert BAD in [check.status for check in check_signature("x", answer, SignedBodies(REQUEST, RESPONSE))]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 200_000, b'{"text":' + b"9" * 5000 + b"}"])
def test_signature_response_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(FailedError):
        SignatureAnswer.parse(body)


def test_signature_response_with_a_duplicate_member_is_refused() -> None:
    whole = json.dumps(signature())
    for twice in (whole[:-1] + ', "text": "a:b"}', whole[:-1] + ', "more": [{"a": 1, "a": 1}]}'):
        with pytest.raises(FailedError, match="more than one"):
            SignatureAnswer.parse(twice.encode())


def test_ed25519_key_of_small_order_is_refused() -> None:
    # With the neutral element as key, a signature of itself and zero fits every message.
    neutral = "01" + "00" * 31
    answer = signature("ed25519") | {"signing_address": neutral, "signature": neutral + "00" * 32}
    assert statuses(answer)[2] is BAD


A, B, C = "a" * 64, "b" * 64, "0123456789abcdef" * 4


def test_signed_text_ends_with_the_request_and_response_hashes() -> None:
    assert signed_hashes(f"{A}:{B}") == (A, B, None)
    assert signed_hashes(f"m:x:{A}:{B}") == (A, B, "m:x")


@pytest.mark.parametrize("name", [C, f"{C}:{A}", f"m:{C}", f"{C}:", f":{C}", "", ":", "m\n", "\n:m"])
def test_model_name_that_looks_like_hashes_does_not_shift_the_hashes(name: str) -> None:
    assert signed_hashes(signed_text(A, B, name)) == (A, B, name)
    assert {GOOD} == set(statuses(signature(model=name)))
    named = signed_text(sha256(RESPONSE), sha256(REQUEST), f"{sha256(REQUEST)}:{sha256(RESPONSE)}")
    assert statuses(signature() | {"text": named})[:2] == [BAD, BAD]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_signed_text_with_any_model_name_is_parsed_unambiguously(name: str) -> None:
    assert signed_hashes(signed_text(A, B, name)) == (A, B, name)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", A, f"{A}:", f":{A}", f"{A}{B}", f"{A};{B}", f"{A}:{B}:", f"{A}:{B} ", f"{A}:{B}\n", f" {A}:{B}"),
        *(f"{A.upper()}:{B}", f"0x{A}:{B}", f"{A}0:{B}", f"{A}:{B[1:]}", f"m:{A[1:]}:{B}", f"{A}::{B}"),
        *(f"{A[1:]}\N{FULLWIDTH DIGIT ONE}:{B}", "a:b", "m:a:b"),
    ],
)
def test_malformed_signed_text_is_refused(text: str) -> None:
    with pytest.raises(FailedError, match="not of the form"):
        signed_hashes(text)
