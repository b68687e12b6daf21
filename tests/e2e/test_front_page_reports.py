"""The checks of the front page for attestation reports, in a real browser: each kind of lie about a report."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from attest_web.keys import SigningKeys
from attest_web.signatures import SIGNING_ALGOS
from attest_web.verify.nvidia.evidence import CANNED_NONCE
from scripts.tee_simulator.tdx import SimulatedPlatform
from tests.e2e.support.dstack_guest import KMS_KEY, Guest, key_provider, sha256
from tests.e2e.support.front_page import CLAIMS, LISTS, REGISTERS, flipped, listed_anew, marks, opened_modules
from tests.e2e.support.front_page_reports import (
    ATTRIBUTES,
    COMPOSE,
    GPUS,
    ITS_END,
    ITS_NONCE,
    KNOWN_GUEST,
    MRCONFIGID,
    MRTD,
    NONCE,
    REPORT_DATA,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    TEE_TYPE,
    check_reports,
    gpu_evidence,
    true_reports,
    with_another,
)

Amend = Callable[[Any], object]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform()


def test_valid_reports_pass_every_check_a_browser_can_make(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform
) -> None:
    found = check_reports(page, keys, true_reports(keys, platform))
    assert found["binds"] == [True, True]
    assert marks(found["checks"], "fails") == set()
    assert marks(found["checks"], "not made") == {"ecdsa quote signature", "ed25519 quote signature"}
    kinds = {"key", "address bound", "nonce", "TD debug", "GPU nonce", "MRCONFIGID", *REGISTERS, *CLAIMS}
    expected = {f"{algo} {kind}" for algo in SIGNING_ALGOS for kind in kinds}
    assert marks(found["checks"], "holds") == {*expected, "measurements"}


def quote_lie(at: int) -> Amend:
    return lambda report: report.update(intel_quote=flipped(report["intel_quote"], at))


def gpu_lie(**values: Any) -> Amend:
    return lambda report: report.update(nvidia_payload=json.dumps(json.loads(report["nvidia_payload"]) | values))


UNREADABLE = {"report", "measurements"}
COMPOSE_CLAIMS = {"compose hash", "key provider"}
REPORT_LIES: dict[str, tuple[Amend, set[str]]] = {
    "address in the quote": (quote_lie(REPORT_DATA), {"address bound"}),
    "end of the address": (quote_lie(REPORT_DATA + 39), {"address bound"}),
    "padding of the address": (quote_lie(REPORT_DATA + 41), {"address bound"}),
    "end of the address or its padding": (quote_lie(ITS_NONCE - 1), {"address bound"}),
    "nonce in the quote": (quote_lie(ITS_NONCE), {"nonce"}),
    "middle of the nonce in the quote": (quote_lie(ITS_NONCE + 33), {"nonce"}),
    "end of the nonce in the quote": (quote_lie(ITS_END - 1), {"nonce"}),
    "nonce of the report": (lambda report: report.update(request_nonce="00" * 32), {"nonce"}),
    "debug": (quote_lie(ATTRIBUTES + 1), {"TD debug"}),
    "other firmware": (quote_lie(MRTD), {"measurements"}),
    "other devices": (quote_lie(RTMR0), {"measurements", "RTMR0"}),
    "other kernel": (quote_lie(RTMR1 + 95), {"measurements", "RTMR1"}),
    "other command line": (quote_lie(RTMR2 + 50), {"measurements", "RTMR2"}),
    "other app": (quote_lie(RTMR3), {"measurements", "RTMR3", "MRCONFIGID", *CLAIMS}),
    "other configuration": (quote_lie(MRCONFIGID + 10), {"MRCONFIGID"}),
    "other compose file": (lambda report: report.update(info={"tcb_info": {"app_compose": "{}"}}), COMPOSE_CLAIMS),
    "no compose file": (lambda report: report.pop("info"), COMPOSE_CLAIMS),
    "another app's id": (lambda report: report.update(app_id="00" * 20), {"boot log"}),
    "no log": (lambda report: report.pop("event_log"), {*REGISTERS, *CLAIMS, "MRCONFIGID"}),
    "half a log": (lambda report: report["event_log"].pop(), {"RTMR3", *CLAIMS, "MRCONFIGID"}),
    "key": (lambda report: report.update(signing_address="0x" + "00" * 20), {"key"}),
    "no key": (lambda report: report.pop("signing_address"), {"key"}),
    "development": (lambda report: report.update(dev=True), {"keys"}),
    "an enclave's quote": (quote_lie(TEE_TYPE), UNREADABLE),
    "half a quote": (lambda report: report.update(intel_quote=report["intel_quote"][:1000]), UNREADABLE),
    "a quote that is not hex": (lambda report: report.update(intel_quote="zz" * 1000), UNREADABLE),
    "no quote": (lambda report: report.pop("intel_quote"), UNREADABLE),
    "nothing": (lambda report: report.clear(), UNREADABLE),
    "GPU nonce": (gpu_lie(nonce="00" * 32), {"GPU nonce"}),
    "no GPU": (gpu_lie(evidence_list=[]), {"GPU nonce"}),
    "an odd GPU": (gpu_lie(evidence_list=[{"evidence": "AAAA"}]), {"GPU nonce"}),
    "no base64": (gpu_lie(evidence_list=[{"evidence": "?"}]), {"GPU nonce"}),
    **{
        f"{what} of GPU {number}": (gpu_lie(evidence_list=with_another(number, evidence)), {"GPU nonce"})
        for number in range(GPUS)
        for what, evidence in {
            "evidence for another nonce": gpu_evidence(bytes(32), number),
            "evidence for a nonce that ends otherwise": gpu_evidence(NONCE[:31] + b"\0", number),
            "canned evidence": gpu_evidence(CANNED_NONCE, number),
            "no evidence": {},
        }.items()
    },
    "no payload": (lambda report: report.update(nvidia_payload=None), {"GPU nonce"}),
}
SPEAKS_OF_NO_KEY = {"measurements", "GPU nonce", "RTMR0", "RTMR1", "RTMR2", "MRCONFIGID", "boot log"}


@pytest.mark.parametrize(
    ("lie", "algo"),
    [
        (lie, algo)
        for lie in REPORT_LIES
        for algo in SIGNING_ALGOS
        if (lie, algo) != ("padding of the address", "ed25519")  # which has none
    ],
)
def test_tampered_report_fails_the_affected_checks(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, lie: str, algo: str
) -> None:
    tell, failing = REPORT_LIES[lie]
    told = true_reports(keys, platform)
    tell(told[algo])
    listed_anew(told[algo])
    found = check_reports(page, keys, told)
    expected = {name if name == "measurements" else f"{algo} {name}" for name in failing}
    assert marks(found["checks"], "fails") == expected
    bound = failing <= SPEAKS_OF_NO_KEY
    assert found["binds"] == [bound if each == algo else True for each in SIGNING_ALGOS]


@pytest.mark.parametrize("bit", range(8))
def test_td_with_an_untrusted_attribute_bit_fails_the_td_debug_check(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, bit: int
) -> None:
    told = true_reports(keys, platform)
    for report in told.values():
        quote = report["intel_quote"]
        assert quote[ATTRIBUTES : ATTRIBUTES + 2] == "00"
        report["intel_quote"] = f"{quote[:ATTRIBUTES]}{1 << bit:02x}{quote[ATTRIBUTES + 2 :]}"
        listed_anew(report)
    found = check_reports(page, keys, told)
    assert marks(found["checks"], "fails") == {"ecdsa TD debug", "ed25519 TD debug"}
    assert found["binds"] == [False, False]


def test_canned_evidence_stays_canned_for_a_report_with_its_own_nonce(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform
) -> None:
    told = true_reports(keys, platform, CANNED_NONCE)
    found = check_reports(page, keys, told, nonce=CANNED_NONCE)
    assert marks(found["checks"], "fails") == {"ecdsa GPU nonce", "ed25519 GPU nonce"}


LISTED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another report": lambda alone: [alone | {"intel_quote": "00" * 700}],
    "a member more": lambda alone: [alone | {"more": None}],
    "a member less": lambda alone: [{name: value for name, value in alone.items() if name != "info"}],
    "a member that is deep inside": lambda alone: [
        json.loads(json.dumps(alone).replace('"imr": 3', '"imr": "3"', 1)),
    ],
    "the report twice": lambda alone: [alone, alone],
    "nothing": lambda alone: [],
    "null": lambda alone: None,
    "the report itself": lambda alone: alone,
    "a list in a list": lambda alone: [[alone]],
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("what", LISTED)
def test_attestation_list_that_differs_from_the_report_is_refused(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, name: str, what: str
) -> None:
    told = true_reports(keys, platform)
    assert all(name in report for report in told.values())
    told["ecdsa"][name] = LISTED[what]({key: value for key, value in told["ecdsa"].items() if key not in LISTS})
    found = check_reports(page, keys, told)
    assert marks(found["checks"], "fails") == {"ecdsa report", "measurements"}
    [refused] = [check["detail"] for check in found["checks"] if check["name"] == "ecdsa report"]
    assert name in refused
    assert found["binds"] == [False, True]


@pytest.mark.parametrize("left_out", [LISTS, LISTS[:1], LISTS[1:]], ids=str)
def test_a_report_without_lists_or_with_its_members_in_another_order_holds(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, left_out: tuple[str, ...]
) -> None:
    told = true_reports(keys, platform)
    for report in told.values():
        for name in left_out:
            del report[name]
    backwards = {algo: dict(reversed(report.items())) for algo, report in told.items()}
    assert marks(check_reports(page, keys, backwards)["checks"], "fails") == set()


@pytest.mark.parametrize(
    ("member", "where"),
    [
        ("intel_quote", "report"),
        ("imr", "report"),
        ("nonce", "GPU nonce"),
        ("key_provider_id", "key provider"),
        ("app_compose", "compose hash"),
    ],
)
def test_duplicate_json_member_is_refused(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, member: str, where: str
) -> None:
    def twice(text: str) -> str:
        assert f'"{member}": ' in text
        return text.replace(f'"{member}": ', f'"{member}": "of the other reader", "{member}": ', 1)

    guest = KNOWN_GUEST
    if member == "key_provider_id":
        compose = twice(COMPOSE)
        guest = Guest(compose).with_config(1, sha256(compose))
    told: dict[str, Any] = true_reports(keys, platform, guest=guest)
    report = told["ecdsa"]
    if member == "nonce":
        report["nvidia_payload"] = twice(report["nvidia_payload"])
    if member == "app_compose":
        report["info"]["tcb_info"] = twice(report["info"]["tcb_info"])
    listed_anew(report)
    if where == "report":
        told["ecdsa"] = twice(json.dumps(report))
    found = check_reports(page, keys, told)
    assert f"ecdsa {where}" in marks(found["checks"], "fails")
    [refused] = [check["detail"] for check in found["checks"] if check["name"] == f"ecdsa {where}"]
    assert f'more than one "{member}"' in refused


@pytest.mark.parametrize("digits", ["9007199254740993", "-9007199254740993", "123456789012345678e3", "1e400", "-1e999"])
def test_a_number_that_a_browser_would_round_is_refused(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, digits: str
) -> None:
    """It would be the same in the lists as at the top level, and to other readers another one."""
    told: dict[str, Any] = true_reports(keys, platform)
    told["ecdsa"]["size"] = 9007199254740991
    listed_anew(told["ecdsa"])
    assert marks(check_reports(page, keys, told)["checks"], "fails") == set()
    told["ecdsa"] = json.dumps(told["ecdsa"]).replace("9007199254740991", digits, 1)
    [refused] = [
        check["detail"] for check in check_reports(page, keys, told)["checks"] if check["name"] == "ecdsa report"
    ]
    assert "a number too large" in refused


def test_development_run_reports_pass_with_keys_not_attested(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform
) -> None:
    told = true_reports(keys, platform)
    for report in told.values():
        report["dev"] = True
        listed_anew(report)
    found = check_reports(page, keys, told, dev=True)
    assert marks(found["checks"], "fails") == set()
    assert {"ecdsa keys", "ed25519 keys"} <= marks(found["checks"], "not made")
    assert found["binds"] == [False, False]


def test_report_for_another_nonce_fails_the_nonce_checks(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform
) -> None:
    found = check_reports(page, keys, true_reports(keys, platform, bytes(32)))
    assert found["binds"] == [False, False]
    nonces = {f"{algo} {what}" for algo in SIGNING_ALGOS for what in ("nonce", "GPU nonce")}
    assert marks(found["checks"], "fails") == nonces


@pytest.mark.parametrize(
    ("provider", "bound", "status"),
    [(key_provider("kms", KMS_KEY), True, "not made"), (key_provider("tpm"), False, "fails")],
    ids=["kms", "tpm"],
)
def test_keys_are_bound_with_a_kms_provider_and_not_with_a_tpm(
    page: Page, platform: SimulatedPlatform, provider: bytes, bound: bool, status: str
) -> None:
    keys = SigningKeys.from_secrets(b"\1" * 32, b"\2" * 32)
    found = check_reports(page, keys, true_reports(keys, platform, guest=Guest(provider=provider)))
    providers = {f"{algo} key provider" for algo in SIGNING_ALGOS}
    assert found["binds"] == [bound, bound]
    assert providers <= marks(found["checks"], status)
    assert marks(found["checks"], "fails") <= providers
