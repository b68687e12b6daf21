import json
from typing import Any

import pytest

from attest_web.attestation import Attestation, ReportRequest
from attest_web.dstack import Quote
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.report_data import report_data


class Quotes:
    """Remembers what was quoted."""

    def __init__(self) -> None:
        self.quoted: list[bytes] = []

    def quote(self, report_data: bytes) -> Quote:
        self.quoted.append(report_data)
        return Quote("abcd", [{"imr": 3}])

    def info(self) -> dict[str, Any]:
        return {"app_name": "ü", "tcb_info": {"mrtd": "00"}}


@pytest.fixture
def quotes() -> Quotes:
    return Quotes()


def made(keys: SigningKeys, quotes: Quotes, request: ReportRequest, nonce: bytes, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"dev": False} | more
    attestation = Attestation(
        keys, "org/m", quotes, lambda nonce: f'{{"nonce":"{nonce}"}}', metrics=Metrics(), **options
    )
    report: dict[str, Any] = json.loads(attestation.report(request, nonce))
    return report


@pytest.mark.parametrize("algo", ["ecdsa", "ed25519"])
def test_it_has_the_fields_of_the_contract_twice(
    keys: SigningKeys, quotes: Quotes, vectors: dict[str, str], algo: Any
) -> None:
    report = made(keys, quotes, ReportRequest(algo), bytes.fromhex(vectors["nonce"]))
    [again] = report.pop("all_attestations")
    assert again == report
    assert report == {
        "model_name": "org/m",
        "signing_address": vectors["ecdsa_address" if algo == "ecdsa" else "ed25519_public_key"],
        "signing_algo": algo,
        "signing_public_key": vectors["ecdsa_public_key" if algo == "ecdsa" else "ed25519_public_key"],
        "request_nonce": vectors["nonce"],
        "intel_quote": "abcd",
        "nvidia_payload": f'{{"nonce":"{vectors["nonce"]}"}}',
        "event_log": [{"imr": 3}],
        "info": {"app_name": "ü", "tcb_info": {"mrtd": "00"}},
    }


def test_what_is_quoted_binds_address_and_nonce(keys: SigningKeys, quotes: Quotes, vectors: dict[str, str]) -> None:
    nonce = bytes.fromhex(vectors["nonce"])
    made(keys, quotes, ReportRequest("ecdsa"), nonce)
    made(keys, quotes, ReportRequest("ed25519"), nonce)
    assert quotes.quoted == [bytes.fromhex(vectors["report_data_ecdsa"]), report_data(keys.ed25519_public_key, nonce)]


def test_the_tls_key_is_bound_where_it_is_asked_for(keys: SigningKeys, quotes: Quotes, vectors: dict[str, str]) -> None:
    nonce, spki = bytes.fromhex(vectors["nonce"]), bytes.fromhex(vectors["spki_sha256"])
    with_tls = made(keys, quotes, ReportRequest("ecdsa", spki), nonce)
    assert with_tls["tls_cert_fingerprint"] == vectors["spki_sha256"]
    assert quotes.quoted.pop().hex() == vectors["report_data_ecdsa_with_tls"]
    assert "tls_cert_fingerprint" not in made(keys, quotes, ReportRequest("ecdsa"), nonce)
    assert quotes.quoted.pop().hex() == vectors["report_data_ecdsa"]


def test_random_keys_are_said_to_be_so(keys: SigningKeys, quotes: Quotes) -> None:
    assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32, dev=True)["dev"] is True
    assert "dev" not in made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32)
