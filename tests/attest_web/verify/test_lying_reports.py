"""Each kind of lie in a report, and which check tells it."""

import json
from typing import Any

import pytest

from attest_web.verify.audit import Audit, check_evidence
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Status
from tests.attest_web.verify.auditing import audit, status, wrong
from tests.attest_web.verify.minting import (
    APP_COMPOSE,
    APP_ID,
    COMPOSE_HASH,
    DSTACK_VECTORS,
    INSTANCE_ID,
    KMS_ID,
    KMS_ROOT,
    MRTD,
    OS_IMAGE_HASH,
    OTHER_KEYS,
    OTHER_KMS_ID,
    SPKI,
    BootLog,
    QuoteBook,
    as_version_5,
    boot_log,
    event_log,
    evidence,
    gpu_payload,
    key_provider,
    registers,
    report,
    runtime_log,
)

ROOT = KMS_ROOT.public_key.format()
OF_THE_BOOT = {
    *("boot log", "compose hash", "key provider"),
    *("GPU attested at boot", "GPU boot evidence", "GPU identity", "GPU policy"),
}
"""The checks that take what they hold from the boot log."""

LOG = event_log()


@pytest.mark.parametrize(
    ("told", "lie"),
    [
        ({"key attested"}, report(keys=OTHER_KEYS)),
        ({"nonce", "GPU nonce", "GPU evidence"}, report(nonce=b"\7" * 32)),
        ({"nonce"}, report(request_nonce="07" * 32, nvidia_payload=gpu_payload())),
        (
            {"nonce", "address bound"},  # a quote of the same TD about something else
            report(intel_quote=report(keys=OTHER_KEYS, nonce=b"\7" * 32)["intel_quote"]),
        ),
        ({"address bound"}, report(tls_cert_fingerprint=SPKI.hex())),
        ({"public key"}, report(signing_public_key=OTHER_KEYS.ecdsa_public_key.hex())),
        ({"TD debug"}, report(quoted={"attributes": b"\1\0\0\x10\0\0\0\0"})),
        ({"TD owner"}, report(quoted={"mr_owner": b"\1" * 48})),
        ({"TD owner"}, report(quoted={"mr_owner_config": b"\1" * 48})),
        (
            {"TD owner"},
            report(intel_quote=as_version_5(bytes.fromhex(report()["intel_quote"]), b"\1" * 48).hex()),
        ),
        ({"RTMR0"}, report(event_log=LOG[1:])),
        ({"RTMR1"}, report(event_log=[event for event in LOG if event["imr"] != 1])),
        ({"RTMR2"}, report(event_log=[event for event in LOG if event["imr"] != 2])),
        ({"RTMR3", *OF_THE_BOOT}, report(event_log=LOG[:-1])),
        (OF_THE_BOOT, report(events=LOG[:-1])),
        ({"boot log"}, report(app_id="07" * 20)),
        ({"compose hash", "key provider", "GPU policy"}, report(info={"tcb_info": {"app_compose": "{}"}})),
        ({"key provider"}, report(events=event_log(boot_log(key_provider=key_provider("kms", OTHER_KMS_ID))))),
        ({"key provider"}, report(events=event_log(boot_log(key_provider=key_provider("tpm"))))),
        ({"key provider"}, report(events=event_log(boot_log(key_provider=key_provider("none"))))),
        ({"MRCONFIGID"}, report(quoted={"mr_config_id": b"\1" + b"\7" * 32 + bytes(15)})),
        ({"GPU policy"}, report(events=event_log(boot_log(gpu_policy_hash=b"\7" * 32)))),
        ({"GPU nonce"}, report(nvidia_payload=json.dumps(json.loads(gpu_payload()) | {"nonce": "07" * 32}))),
        ({"GPU nonce", "GPU evidence"}, report(nvidia_payload=gpu_payload(b"\7" * 32))),
        ({"GPU evidence"}, report(nvidia_payload=gpu_payload(evidence_nonce=b"\7" * 32))),
        ({"GPU evidence"}, report(canned_gpu=True)),
    ],
)
def test_a_false_report_fails_the_check_that_covers_it(told: set[str], lie: dict[str, Any]) -> None:
    found = audit(lie, report("ed25519"))
    assert wrong(found) == {f"ecdsa {name}" for name in told}
    assert not found.ok


INFO: dict[str, Any] = {
    "app_id": APP_ID.hex(),
    "instance_id": INSTANCE_ID.hex(),
    "compose_hash": COMPOSE_HASH.hex(),
    "tcb_info": {
        "app_compose": APP_COMPOSE,
        "mrtd": MRTD.hex(),
        **{f"rtmr{number}": value.hex() for number, value in enumerate(registers(LOG))},
        "compose_hash": COMPOSE_HASH.hex(),
    },
}


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
@pytest.mark.parametrize("false", ["07", "", 7, True, ["07"], "0X", "g"])
def test_info_must_agree_with_the_measurements(false: object, as_text: bool) -> None:
    def found(info: dict[str, Any]) -> Audit:
        told = info | {"tcb_info": json.dumps(info["tcb_info"]) if as_text else info["tcb_info"]}
        return audit(report(info=told), report("ed25519"))

    assert found(INFO).ok
    for name in ("app_id", "instance_id", "compose_hash"):
        assert wrong(found(INFO | {name: false})) == {"ecdsa info"}
        assert found(INFO | {name: None}).ok, "dstack leaves out what it does not know"
    for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "compose_hash"):
        assert wrong(found(INFO | {"tcb_info": INFO["tcb_info"] | {name: false}})) == {"ecdsa info"}
        assert found(INFO | {"tcb_info": INFO["tcb_info"] | {name: None}}).ok
    # An app may have extended it since `info` was asked for.
    assert found(INFO | {"tcb_info": INFO["tcb_info"] | {"rtmr3": "07" * 48}}).ok


def test_info_of_the_real_guest_agent_matches_its_quote() -> None:
    agent = DSTACK_VECTORS["real_agent"]["v1"]
    told = agent["Info_without_app_cert"]
    made = report(info=told, intel_quote=agent["GetQuote"]["quote"], event_log=agent["GetQuote"]["event_log"])
    found = audit(made, report("ed25519"))
    assert status(found, "ecdsa info") is Status.PASSED
    assert status(audit(report(info=told), report("ed25519")), "ecdsa info") is Status.FAILED


def test_quote_of_version_5_is_accepted() -> None:
    for service_td in (None, bytes(48)):
        quoted = as_version_5(bytes.fromhex(report()["intel_quote"]), service_td).hex()
        assert audit(report(intel_quote=quoted), report("ed25519")).ok


@pytest.mark.parametrize("version", [1, 2])
def test_event_log_of_either_version_is_accepted(version: int) -> None:
    assert audit(report(events=event_log(version=version)), report("ed25519")).ok


def test_a_compose_hash_that_is_hidden_behind_a_colon_does_not_pass() -> None:
    attack = DSTACK_VECTORS["colon_relabel_attack"]
    good, evil = attack["good_app_compose"], bytes.fromhex(attack["evil_compose_hash"])
    late: BootLog = [("compose-hash", bytes.fromhex(attack["good_compose_hash"]))]
    firmware = [event for event in LOG if event["imr"] < 3]
    whole = [*boot_log(compose_hash=evil, app_id=evil[:20]), *late]
    relabelled = [
        ("compose-hash:", evil[1:]) if name == "compose-hash" and payload == evil else (name, payload)
        for name, payload in whole
    ]
    for happened, shown in (
        (attack["true_events"], attack["shown_log"]),
        (runtime_log(whole), runtime_log(relabelled)),
    ):
        made = report(
            events=[*firmware, *happened],
            event_log=[*firmware, *shown],
            info={"tcb_info": {"app_compose": good}},
            app_id=evil[:20].hex(),
        )
        assert registers(happened)[3] == registers(shown)[3]
        found = audit(made, report("ed25519"), compose_hash=bytes.fromhex(attack["good_compose_hash"]))
        assert status(found, "ecdsa RTMR3") is Status.PASSED
        assert {"ecdsa boot log", "ecdsa compose hash", "ecdsa key provider"} <= wrong(found)


def test_app_events_after_the_boot_do_not_affect_the_checks() -> None:
    late: BootLog = [("compose-hash", COMPOSE_HASH), ("key-provider", key_provider("kms", KMS_ID)), *boot_log()]
    assert audit(report(events=event_log([*boot_log(), *late])), report("ed25519")).ok
    other = boot_log(compose_hash=b"\7" * 32, key_provider=key_provider("kms", OTHER_KMS_ID))
    found = audit(report(events=event_log([*other, *late])), report("ed25519"), key_providers=frozenset({KMS_ID}))
    assert wrong(found) == {"ecdsa compose hash", "ecdsa key provider", "ecdsa GPU policy"}


def test_event_log_as_json_text_is_accepted() -> None:
    log = report()["event_log"]
    assert audit(report(event_log=json.dumps(log)), report("ed25519")).ok
    assert wrong(audit(report(event_log=json.dumps(log[1:])), report("ed25519"))) == {"ecdsa RTMR0"}
    for nonsense in ("", "[", "{}", '"[]"'):
        assert "ecdsa RTMR3" in wrong(audit(report(event_log=nonsense), report("ed25519")))


def test_tcb_info_as_json_text_is_accepted() -> None:
    made = report(info={"tcb_info": json.dumps(report()["info"]["tcb_info"])})
    assert audit(made, report("ed25519")).ok


UNREAD = {"model_name", "app_id"}
"""Members of a report that it holds without."""


@pytest.mark.parametrize("missing", sorted(set(report()) - UNREAD))
def test_report_without_one_of_its_fields_does_not_pass(missing: str) -> None:
    def checked(ecdsa_report: dict[str, Any]) -> Audit:
        policy = Policy(
            QuoteBook(report(), report("ed25519")),
            gpu=GpuDemand.UNVERIFIED,
            os_image_hashes=frozenset({OS_IMAGE_HASH}),
            kms_roots=frozenset({ROOT}),
        )
        return check_evidence(evidence(ecdsa_report, report("ed25519")), policy)

    assert checked({name: value for name, value in report().items() if name not in UNREAD}).ok
    assert not checked({name: value for name, value in report().items() if name != missing}).ok
