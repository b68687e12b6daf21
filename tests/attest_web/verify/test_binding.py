import pytest

from attest_web.attestation.report_data import report_data
from attest_web.signatures import SigningAlgo
from attest_web.verify.binding import check_address_bound, check_public_key
from attest_web.verify.primitives.checks import FailedError
from tests.attest_web.verify.minting import ALGOS, KEYS, NONCE, OTHER_KEYS, SPKI, VECTORS, address


def test_report_data_matches_the_vectors() -> None:
    assert report_data(address(KEYS, "ecdsa"), NONCE).hex() == VECTORS["report_data_ecdsa"]
    assert report_data(address(KEYS, "ecdsa"), NONCE, SPKI).hex() == VECTORS["report_data_ecdsa_with_tls"]
    assert report_data(address(KEYS, "ed25519"), NONCE).hex() == VECTORS["ed25519_public_key"] + VECTORS["nonce"]


def test_public_key_must_give_the_signing_address() -> None:
    check_public_key("ecdsa", KEYS.ecdsa_public_key, address(KEYS, "ecdsa"))
    check_public_key("ed25519", KEYS.ed25519_public_key, address(KEYS, "ed25519"))
    with pytest.raises(FailedError, match="gives 0x"):
        check_public_key("ecdsa", KEYS.ecdsa_public_key[::-1], address(KEYS, "ecdsa"))
    with pytest.raises(FailedError, match="wrong length"):
        check_public_key("ed25519", KEYS.ed25519_public_key, address(KEYS, "ecdsa"))


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("spki", [None, SPKI], ids=["alone", "with TLS"])
def test_quote_must_carry_the_signing_address_and_the_tls_key(algo: SigningAlgo, spki: bytes | None) -> None:
    bound = address(KEYS, algo)
    check_address_bound(algo, bound, NONCE, spki, report_data(bound, NONCE, spki))
    for other in (report_data(address(OTHER_KEYS, algo), NONCE, spki), report_data(bound, NONCE, b"\7" * 32)):
        with pytest.raises(FailedError, match="does not carry this address"):
            check_address_bound(algo, bound, NONCE, spki, other)


@pytest.mark.parametrize("algo", ALGOS)
def test_every_byte_of_the_address_that_a_public_key_gives_is_compared(algo: SigningAlgo) -> None:
    key = KEYS.ecdsa_public_key if algo == "ecdsa" else KEYS.ed25519_public_key
    bound = address(KEYS, algo)
    for at in range(len(bound)):
        bent = bytearray(bound)
        bent[at] ^= 1 << at % 8
        with pytest.raises(FailedError, match="the public key gives"):
            check_public_key(algo, key, bytes(bent))


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("spki", [None, SPKI], ids=["alone", "with TLS"])
def test_every_byte_of_report_data_is_compared(algo: SigningAlgo, spki: bytes | None) -> None:
    bound = address(KEYS, algo)
    true = report_data(bound, NONCE, spki)
    for at in range(32):
        bent = bytearray(true)
        bent[at] ^= 1 << at % 8
        with pytest.raises(FailedError, match="does not carry this address"):
            check_address_bound(algo, bound, NONCE, spki, bytes(bent))
