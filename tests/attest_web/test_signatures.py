import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.keys import SigningKeys, checksum_address
from attest_web.signatures import sign_text, signed_text
from tests.support import verification

# Half of the order of secp256k1: EIP-2 wants s at most this large.
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def test_keys_have_the_addresses_of_the_vectors(keys: SigningKeys, vectors: dict[str, str]) -> None:
    assert keys.ecdsa_address == vectors["ecdsa_address"]
    assert keys.ecdsa_public_key.hex() == vectors["ecdsa_public_key"]
    assert keys.ed25519_address == keys.ed25519_public_key.hex() == vectors["ed25519_public_key"]


def test_text_and_signatures_are_those_of_the_vectors(keys: SigningKeys, vectors: dict[str, str]) -> None:
    hashes = [hashlib.sha256(vectors[body].encode()).hexdigest() for body in ("request_body", "response_body")]
    text = signed_text(*hashes)
    assert text == vectors["text"]
    assert sign_text(keys, text) == {
        "text": vectors["text"],
        "signature_ecdsa": vectors["signature_ecdsa"],
        "signing_address_ecdsa": vectors["ecdsa_address"],
        "signature_ed25519": vectors["signature_ed25519"],
        "signing_address_ed25519": vectors["ed25519_public_key"],
    }


def test_model_name_is_in_front_of_the_signed_text_if_configured() -> None:
    assert signed_text("aa", "bb", "org/model") == "org/model:aa:bb"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_other_libraries_verify_what_is_signed(keys: SigningKeys, text: str) -> None:
    signed = sign_text(keys, text)
    assert int(signed["signature_ecdsa"][66:130], 16) <= HALF_ORDER
    assert verification.recovered_address(text, signed["signature_ecdsa"]) == keys.ecdsa_address
    verification.check_ed25519(text, signed["signature_ed25519"], keys.ed25519_address)


@pytest.mark.parametrize(
    "address",
    [  # the examples of EIP-55
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_addresses_are_checksummed_as_eip55_says(address: str) -> None:
    assert checksum_address(bytes.fromhex(address[2:])) == address


@pytest.mark.parametrize(
    ("ecdsa", "ed25519", "named"),
    [
        (b"\x01" * 31, b"\x01" * 32, "ecdsa"),
        (b"\x01" * 32, b"\x01" * 33, "ed25519"),
        (b"\0" * 32, b"\x01" * 32, "ecdsa"),
    ],
)
def test_bad_secrets_are_named_and_not_quoted(ecdsa: bytes, ed25519: bytes, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        SigningKeys.from_secrets(ecdsa, ed25519)
    assert "01" * 8 not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_in_no_repr(keys: SigningKeys, vectors: dict[str, Any]) -> None:
    for secret in (vectors["ecdsa_secret"], vectors["ed25519_seed"]):
        assert secret not in repr(keys)
        assert repr(bytes.fromhex(secret)) not in repr(keys)


def test_random_keys_differ() -> None:
    assert SigningKeys.random().ecdsa_address != SigningKeys.random().ecdsa_address
