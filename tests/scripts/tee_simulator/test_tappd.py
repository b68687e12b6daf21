"""The older interface."""

import hashlib
from typing import Any

import pytest
from Crypto.Hash import keccak
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from scripts.tee_simulator.arguments import ArgumentError
from scripts.tee_simulator.tappd import report_data
from tests.scripts.tee_simulator.serving import Serving


def test_report_data_is_the_padded_hash_of_prefix_and_content() -> None:
    expected = hashlib.sha512(b"app-data:said").digest()
    assert report_data(b"said", "sha512", "app-data") == expected
    assert report_data(b"said", "sha3-256", "p") == hashlib.sha3_256(b"p:said").digest() + bytes(32)
    digest = keccak.new(digest_bits=384, data=b"p:said").digest()
    assert report_data(b"said", "keccak384", "p") == digest + bytes(16)


def test_report_data_matches_the_vectors(dstack_vectors: dict[str, dict[str, dict[str, str]]]) -> None:
    known = dstack_vectors["report_data"]["app_data_sha512"]
    assert report_data(bytes.fromhex(known["content"]), "sha512", "app-data").hex() == known["report_data"]


@pytest.mark.parametrize("size", [0, 63, 65])
def test_raw_report_data_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ArgumentError, match="invalid content length"):
        report_data(bytes(size), "raw", "")


def test_tappd_quotes_and_keys_have_the_older_members(served: Serving) -> None:
    with served.client(tappd=True) as tappd, served.client() as dstack:
        raw = tappd.post("/prpc/Tappd.RawQuote", json={"report_data": "01" * 64}).json()
        assert list(raw) == ["quote", "event_log", "hash_algorithm", "prefix"]
        assert (raw["hash_algorithm"], raw["prefix"]) == ("raw", "")
        assert "01" * 64 in raw["quote"]
        hashed = tappd.post("/prpc/TdxQuote", json={"report_data": "01"}).json()
        assert (hashed["hash_algorithm"], hashed["prefix"]) == ("sha512", "app-data")
        assert hashlib.sha512(b"app-data:\1").hexdigest() in hashed["quote"]
        asked = {"path": "p", "purpose": "u"}
        key = tappd.post("/prpc/Tappd.DeriveK256Key", json=asked).json()
        assert key["k256_key"] == dstack.post("/GetKey", json=asked).json()["key"]
        assert tappd.post("/prpc/Tappd.Info", json={}).json() == dstack.post("/Info", json={}).json()
        assert tappd.post("/prpc/Tappd.GetKey", json={}).json() == {"error": "Service not found: GetKey"}


def test_tappd_derived_key_depends_on_its_path_unless_random(served: Serving) -> None:
    def derived(**more: Any) -> Any:
        with served.client(tappd=True) as tappd:
            asked = {"path": "p", "subject": "s", "alt_names": ["a.example"], **more}
            answer = tappd.post("/prpc/Tappd.DeriveKey", json=asked).json()
        leaf = x509.load_pem_x509_certificate(answer["certificate_chain"][0].encode())
        key = load_pem_private_key(answer["key"].encode(), None)
        assert key.public_key() == leaf.public_key()
        return answer

    assert derived()["key"] == derived()["key"]
    assert derived()["key"] != derived(path="q")["key"]
    assert derived(random_seed=True)["key"] != derived(random_seed=True)["key"]
