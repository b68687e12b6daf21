"""Keys and signature chains, against those that dstack's own agent has given."""

import json
from typing import Any

import pytest
from coincurve import PublicKey
from Crypto.Hash import keccak
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from scripts.tee_simulator.kms import (
    AppKeys,
    KeyProvider,
    KeyProviderKind,
    UnknownAlgorithmError,
    derive_key,
    derive_p256,
    public_key,
)

SEED = bytes(range(32))
APP_ID = bytes(range(20))


def test_derived_keys_match_the_vectors(dstack_vectors: dict[str, Any]) -> None:
    known = dstack_vectors["get_key"]
    key = derive_key(bytes.fromhex(known["app_k256_key"]), known["path"].encode())
    assert key.hex() == known["derived_key"]
    assert public_key(key, "ed25519").hex() == known["ed25519_public_key"]
    for algorithm in ("", "secp256k1", "k256"):
        assert public_key(key, algorithm).hex() == known["secp256k1_public_key"]


def test_app_keys_and_chains_match_the_real_agents(dstack_vectors: dict[str, Any]) -> None:
    appkeys = dstack_vectors["get_key"]["simulator_appkeys"]
    keys = AppKeys(bytes.fromhex(appkeys["k256_key"]), bytes.fromhex(appkeys["k256_signature"]))
    answers = [known for known in dstack_vectors["real_agent"]["keys"]["answers"] if "method" not in known["request"]]
    assert len(answers) == 5
    for known in answers:
        asked = known["request"]
        key, chain = keys.get_key(asked["path"], asked["purpose"], asked.get("algorithm", ""))
        assert {"key": key.hex(), "signature_chain": [link.hex() for link in chain]} == known["answer"]


def test_kms_issued_app_keys_match_the_vectors(dstack_vectors: dict[str, Any]) -> None:
    known = dstack_vectors["signature_chain"]
    kms = KeyProvider(KeyProviderKind.KMS, bytes.fromhex(known["root_secret"]), derive_p256(SEED))
    assert kms.k256_public_key.hex() == known["root_public_key"]
    keys = kms.app_keys(bytes.fromhex(known["app_id"]))
    assert (keys.secret.hex(), keys.issued.hex()) == (known["app_secret"], known["signature1"])
    for algorithm in ("secp256k1", "ed25519"):
        asked = known[algorithm]
        key, chain = keys.get_key(asked["path"], asked["purpose"], algorithm)
        assert (key.hex(), chain[0].hex()) == (asked["key"], asked["signature0"])


def test_an_unknown_algorithm_is_refused() -> None:
    keys = KeyProvider.from_seed(KeyProviderKind.KMS, SEED).app_keys(APP_ID)
    for algorithm in ("rsa", "secp256k1_prehashed", "ED25519"):
        with pytest.raises(UnknownAlgorithmError, match=r"^Unsupported algorithm$"):
            keys.get_key("path", "purpose", algorithm)


def test_kms_id_is_its_p256_public_key() -> None:
    provider = KeyProvider.from_seed(KeyProviderKind.KMS, SEED)
    assert len(provider.id) == 91
    key = load_der_public_key(provider.id)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert json.loads(provider.info) == {"name": "kms", "id": provider.id.hex()}
    assert KeyProvider.from_seed(KeyProviderKind.KMS, SEED).id == provider.id
    assert KeyProvider.from_seed(KeyProviderKind.KMS, SEED[::-1]).id != provider.id


@pytest.mark.parametrize(("kind", "size"), [("none", 0), ("tpm", 0), ("local-sgx", 32)])
def test_key_chain_without_a_kms_has_no_root_signature(kind: str, size: int) -> None:
    provider = KeyProvider.from_seed(KeyProviderKind(kind), SEED)
    assert (len(provider.id), provider.k256_public_key) == (size, b"")
    _, chain = provider.app_keys(APP_ID).get_key("path", "purpose")
    assert (len(chain[0]), chain[1]) == (65, b"")


def test_key_chain_leads_to_the_kms_root() -> None:
    provider = KeyProvider.from_seed(KeyProviderKind.KMS, SEED)
    key, (by_app, by_root) = provider.app_keys(APP_ID).get_key("path", "signing", "ed25519")
    said = b"signing:" + public_key(key, "ed25519").hex().encode()
    app = PublicKey.from_signature_and_message(by_app, keccak256(said), hasher=None).format()
    issued = keccak256(b"dstack-kms-issued:" + APP_ID + app)
    assert PublicKey.from_signature_and_message(by_root, issued, hasher=None).format() == provider.k256_public_key


def test_repr_of_keys_has_no_secret() -> None:
    provider = KeyProvider.from_seed(KeyProviderKind.KMS, SEED)
    keys = provider.app_keys(APP_ID)
    for secret in (provider.k256_root, keys.secret):
        assert secret.hex() not in repr(provider) + repr(keys)
        assert repr(secret) not in repr(provider) + repr(keys)


def keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()
