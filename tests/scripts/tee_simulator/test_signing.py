"""`Sign` and `Verify`, against dstack's own agent."""

from typing import Any

import pytest

from scripts.tee_simulator.kms import UnknownAlgorithmError, derive_key, public_key
from scripts.tee_simulator.signing import MalformedError, key_algorithm, sign, verify

KEY = derive_key(b"secret", b"vms")
DATA = bytes(range(32))
ALGORITHMS = ("ed25519", "secp256k1", "k256", "secp256k1_prehashed")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_signatures_match_the_real_agents(dstack_vectors: dict[str, Any]) -> None:
    key = bytes.fromhex(dstack_vectors["get_key"]["simulator_appkeys"]["derived"]["vms"])
    answers = [known for known in dstack_vectors["real_agent"]["keys"]["answers"] if "method" in known["request"]]
    assert len(answers) == 3
    for known in answers:
        algorithm, data = known["request"]["algorithm"], bytes.fromhex(known["request"]["data"])
        assert sign(key, algorithm, data).hex() == known["answer"]["signature"]
        assert public_key(key, key_algorithm(algorithm)).hex() == known["answer"]["public_key"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_is_valid_only_for_its_data_and_key(algorithm: str) -> None:
    key, signature = public_key(KEY, key_algorithm(algorithm)), sign(KEY, algorithm, DATA)
    assert verify(key, algorithm, DATA, signature)
    assert not verify(key, algorithm, DATA[::-1], signature)
    assert not verify(public_key(KEY[::-1], key_algorithm(algorithm)), algorithm, DATA, signature)


def test_signature_with_a_high_s_is_invalid() -> None:
    signature = sign(KEY, "secp256k1", DATA)
    high = signature[:32] + (ORDER - int.from_bytes(signature[32:])).to_bytes(32)
    assert not verify(public_key(KEY, ""), "secp256k1", DATA, high)


@pytest.mark.parametrize(
    ("algorithm", "key", "signature", "message"),
    [
        ("ed25519", b"\0", bytes(64), "invalid public key"),
        ("ed25519", bytes(32), bytes(63), "signature error"),
        ("secp256k1", b"\0", bytes(64), "signature error"),
        ("secp256k1", public_key(KEY, ""), bytes(64), "signature error"),
        ("secp256k1", public_key(KEY, ""), b"\1" * 65, "signature error"),
    ],
)
def test_malformed_signature_or_key_raises_an_error(algorithm: str, key: bytes, signature: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        verify(key, algorithm, DATA, signature)


@pytest.mark.parametrize("algorithm", ["", "rsa", "SECP256K1"])
def test_an_unknown_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(UnknownAlgorithmError):
        sign(KEY, algorithm, DATA)
    with pytest.raises(UnknownAlgorithmError):
        verify(bytes(33), algorithm, DATA, bytes(64))


def test_prehashed_signing_requires_a_32_byte_digest() -> None:
    with pytest.raises(MalformedError, match="Pre-hashed signing requires a 32-byte digest, but received 1 bytes"):
        sign(KEY, "secp256k1_prehashed", b"3")
