import pytest

from attest_web.attestation.report_data import report_data


def test_report_data_layouts_match_the_vectors(vectors: dict[str, str]) -> None:
    address, nonce = bytes.fromhex(vectors["ecdsa_address"][2:]), bytes.fromhex(vectors["nonce"])
    assert report_data(address, nonce).hex() == vectors["report_data_ecdsa"]
    with_tls = report_data(address, nonce, bytes.fromhex(vectors["spki_sha256"]))
    assert with_tls.hex() == vectors["report_data_ecdsa_with_tls"]


def test_report_data_ed25519_key_fills_the_first_half(vectors: dict[str, str]) -> None:
    key = bytes.fromhex(vectors["ed25519_public_key"])
    assert report_data(key, b"\1" * 32) == key + b"\1" * 32


@pytest.mark.parametrize(("address", "nonce"), [(b"a" * 33, b"n" * 32), (b"a" * 20, b"n" * 31), (b"a" * 20, b"n" * 33)])
def test_report_data_with_wrong_lengths_raises_an_error(address: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        report_data(address, nonce)
