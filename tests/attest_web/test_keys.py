import pytest
from coincurve import PublicKey
from Crypto.Hash import keccak
from nacl.signing import SigningKey, VerifyKey

from attest_web.keys import KEY_BYTES, SigningKeys, random_secrets

ECDSA, ED25519 = bytes(range(1, 33)), bytes(range(101, 133))


def test_each_key_is_made_from_its_own_secret() -> None:
    keys = SigningKeys.from_secrets(ECDSA, ED25519)
    assert keys.ecdsa.secret == ECDSA
    assert bytes(keys.ed25519) == ED25519
    assert keys.ecdsa_public_key == PublicKey.from_secret(ECDSA).format(compressed=False)[1:]
    assert keys.ed25519_public_key == bytes(SigningKey(ED25519).verify_key)


def test_signing_addresses_are_derived_from_the_public_keys() -> None:
    keys = SigningKeys.from_secrets(ECDSA, ED25519)
    digest = keccak.new(digest_bits=256, data=keys.ecdsa_public_key).hexdigest()
    assert keys.ecdsa_address.lower() == f"0x{digest[-40:]}"
    assert VerifyKey(bytes.fromhex(keys.ed25519_address)) == keys.ed25519.verify_key


def test_random_secrets_are_all_different() -> None:
    made = [secret for _ in range(8) for secret in random_secrets()]
    assert len(set(made)) == 16
    assert {len(secret) for secret in made} == {KEY_BYTES}


def test_signing_keys_repr_shows_neither_key() -> None:
    shown = repr(SigningKeys.from_secrets(ECDSA, ED25519))
    assert "ecdsa=" not in shown
    assert "ed25519=" not in shown


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_secret_of_another_length_is_refused_and_its_key_and_length_named(size: int) -> None:
    for secrets, name in (((bytes(range(size)), ED25519), "ecdsa"), ((ECDSA, bytes(range(size))), "ed25519")):
        with pytest.raises(ValueError, match=f"^the {name} key must be 32 bytes, not {size}$"):
            SigningKeys.from_secrets(*secrets)
