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


def test_signing_addresses_match_the_vectors(keys: SigningKeys, vectors: dict[str, str]) -> None:
    assert keys.ecdsa_address == vectors["ecdsa_address"]
    assert keys.ecdsa_public_key.hex() == vectors["ecdsa_public_key"]
    assert keys.ed25519_address == keys.ed25519_public_key.hex() == vectors["ed25519_public_key"]


def test_signed_text_and_signatures_match_the_vectors(keys: SigningKeys, vectors: dict[str, str]) -> None:
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
def test_signatures_are_verified_by_other_libraries(keys: SigningKeys, text: str) -> None:
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
def test_ethereum_address_checksum_follows_eip_55(address: str) -> None:
    assert checksum_address(bytes.fromhex(address[2:])) == address


@pytest.mark.parametrize(
    ("ecdsa", "ed25519", "named"),
    [
        (b"\x01" * 31, b"\x01" * 32, "ecdsa"),
        (b"\x01" * 32, b"\x01" * 33, "ed25519"),
        (b"\0" * 32, b"\x01" * 32, "ecdsa"),
    ],
)
def test_invalid_secret_error_names_the_key_and_does_not_quote_the_secret(
    ecdsa: bytes, ed25519: bytes, named: str
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        SigningKeys.from_secrets(ecdsa, ed25519)
    assert "01" * 8 not in str(caught.value)
    assert caught.value.__cause__ is None


def test_signing_keys_repr_has_no_secret(keys: SigningKeys, vectors: dict[str, Any]) -> None:
    for secret in (vectors["ecdsa_secret"], vectors["ed25519_seed"]):
        assert secret not in repr(keys)
        assert repr(bytes.fromhex(secret)) not in repr(keys)


def test_random_keys_differ() -> None:
    assert SigningKeys.random().ecdsa_address != SigningKeys.random().ecdsa_address
