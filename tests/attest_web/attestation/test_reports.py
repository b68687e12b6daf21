import json
from pathlib import Path
from typing import Any

import pytest

from attest_web.attestation.report_data import report_data
from attest_web.attestation.reports import Attestation, ReportRequest
from attest_web.dstack.guest_agent import Dstack, DstackError, Quote
from attest_web.dstack.key_chain import KeyChains
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from tests.attest_web.guest_agent import agent, as_dstack_answers


class Quotes:
    """Remembers what was quoted."""

    vm_config = ""

    def __init__(self) -> None:
        self.quoted: list[bytes] = []
        self.told: dict[str, Any] = {"app_name": "ü", "tcb_info": {"mrtd": "00"}}

    def quote(self, report_data: bytes) -> Quote:
        self.quoted.append(report_data)
        return Quote("abcd", [{"imr": 3}], self.vm_config)

    def info(self) -> dict[str, Any]:
        return self.told


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
def test_report_has_the_contracts_fields_at_the_top_level_and_in_both_lists(
    keys: SigningKeys, quotes: Quotes, vectors: dict[str, str], algo: Any
) -> None:
    report = made(keys, quotes, ReportRequest(algo), bytes.fromhex(vectors["nonce"]))
    lists = [report.pop("all_attestations"), report.pop("model_attestations")]
    assert lists == [[report], [report]]
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


def test_report_quote_binds_the_signing_address_and_the_nonce(
    keys: SigningKeys, quotes: Quotes, vectors: dict[str, str]
) -> None:
    nonce = bytes.fromhex(vectors["nonce"])
    made(keys, quotes, ReportRequest("ecdsa"), nonce)
    made(keys, quotes, ReportRequest("ed25519"), nonce)
    assert quotes.quoted == [bytes.fromhex(vectors["report_data_ecdsa"]), report_data(keys.ed25519_public_key, nonce)]


def test_the_tls_key_is_bound_where_requested(keys: SigningKeys, quotes: Quotes, vectors: dict[str, str]) -> None:
    nonce, spki = bytes.fromhex(vectors["nonce"]), bytes.fromhex(vectors["spki_sha256"])
    with_tls = made(keys, quotes, ReportRequest("ecdsa", spki), nonce)
    assert with_tls["tls_cert_fingerprint"] == vectors["spki_sha256"]
    assert quotes.quoted.pop().hex() == vectors["report_data_ecdsa_with_tls"]
    assert "tls_cert_fingerprint" not in made(keys, quotes, ReportRequest("ecdsa"), nonce)
    assert quotes.quoted.pop().hex() == vectors["report_data_ecdsa"]


def test_a_report_marks_random_keys(keys: SigningKeys, quotes: Quotes) -> None:
    assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32, dev=True)["dev"] is True
    assert "dev" not in made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32)


APP_ID = "5bb4ff9a3837357f19dc176407a5709c62eb6c56"
CHAINS = KeyChains(ecdsa=("ec", "aa"), ed25519=("ed", ""))


def test_report_shows_the_app_id_only_if_it_is_well_formed(keys: SigningKeys, quotes: Quotes) -> None:
    for told, shown in ((APP_ID, APP_ID), (APP_ID[:-1], None), ("", None), (APP_ID.upper(), None), (7, None)):
        quotes.told["app_id"] = told
        assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32).get("app_id") == shown


def test_report_vm_config_is_the_quotes_or_else_that_of_info(keys: SigningKeys, quotes: Quotes) -> None:
    quotes.told["vm_config"] = '{"of": "info"}'
    assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32)["vm_config"] == '{"of": "info"}'
    quotes.vm_config = '{ "of":"quote" }\n'
    assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32)["vm_config"] == '{ "of":"quote" }\n'
    quotes.vm_config = quotes.told["vm_config"] = ""
    assert "vm_config" not in made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32)


def test_report_signature_chain_is_that_of_its_own_key(keys: SigningKeys, quotes: Quotes) -> None:
    for algo, chain in (("ecdsa", ["ec", "aa"]), ("ed25519", ["ed", ""])):
        request = ReportRequest(algo)  # type: ignore[arg-type]
        assert made(keys, quotes, request, b"n" * 32, chains=CHAINS)["signature_chain"] == chain
    of_old = KeyChains(ecdsa=("ec", "aa"))
    assert "signature_chain" not in made(keys, quotes, ReportRequest("ed25519"), b"n" * 32, chains=of_old)


def test_report_shows_gpu_info_byte_for_byte_or_omits_it(keys: SigningKeys, quotes: Quotes) -> None:
    text = '{"claims": ["\u00fc", "/"]}\n'
    assert made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32, gpu_info=lambda: text)["gpu_info"] == text
    assert "gpu_info" not in made(keys, quotes, ReportRequest("ecdsa"), b"n" * 32, gpu_info=lambda: None)


def test_reports_take_one_quote_each_and_share_one_info_and_gpu_info_call(
    keys: SigningKeys, tmp_path: Path, dstack_vectors: dict[str, Any]
) -> None:
    path = tmp_path / "dstack.sock"
    seen = dstack_vectors["real_agent"]["v1"]
    with agent(path, as_dstack_answers(dstack_vectors)) as asked:
        dstack = Dstack(str(path))
        attestation = Attestation(keys, "m", dstack, lambda _: "{}", False, Metrics(), gpu_info=dstack.gpu_info)
        reports = [json.loads(attestation.report(ReportRequest("ecdsa"), bytes([n]) * 32)) for n in range(4)]
    assert sorted(name for name, _ in asked) == ["/GetQuote"] * 4 + ["/GpuInfo", "/Info"]
    assert reports[3]["app_id"] == seen["Info_without_app_cert"]["app_id"]
    assert reports[3]["vm_config"] == seen["GetQuote"]["vm_config"]
    assert reports[3]["gpu_info"] == dstack_vectors["gpu"]["gpu_info_attestation"]
    assert json.loads(seen["Info_without_app_cert"]["tcb_info"]) == reports[3]["info"]["tcb_info"]


def test_report_fails_when_gpu_info_cannot_be_fetched(
    keys: SigningKeys, tmp_path: Path, dstack_vectors: dict[str, Any]
) -> None:
    path = tmp_path / "dstack.sock"
    with agent(path, as_dstack_answers(dstack_vectors, GpuInfo=(500, {}))):
        dstack = Dstack(str(path))
        attestation = Attestation(keys, "m", dstack, lambda _: "{}", False, Metrics(), gpu_info=dstack.gpu_info)
        with pytest.raises(DstackError, match="the GPUs"):
            attestation.report(ReportRequest("ecdsa"), b"n" * 32)
