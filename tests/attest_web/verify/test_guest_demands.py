"""What a verifier can demand of a guest, and what is warned of where nothing is demanded."""

import hashlib
import json
from typing import Any

from attest_web.verify.audit import (
    UNPINNED_APP,
    UNPINNED_COMPOSE,
    UNPINNED_GUEST,
    UNPINNED_KEY_PROVIDER,
    UNUSUAL_ATTRIBUTES,
)
from attest_web.verify.primitives.checks import Status
from tests.attest_web.verify.auditing import audit, status, wrong
from tests.attest_web.verify.minting import (
    ALGOS,
    APP_COMPOSE,
    APP_ID,
    COMPOSE_HASH,
    KMS_ID,
    KMS_ROOT,
    MRTD,
    OS_IMAGE_HASH,
    OTHER_KEYS,
    OTHER_KMS_ID,
    VM_CONFIG,
    boot_log,
    event_log,
    key_provider,
    registers,
    report,
    signature_chain,
)

ROOT = KMS_ROOT.public_key.format()


def test_expected_compose_hash_and_mrtd_are_compared_with_the_report() -> None:
    found = audit(compose_hash=COMPOSE_HASH, mrtd=MRTD)
    assert found.ok
    assert {status(found, f"{algo} MRTD") for algo in ALGOS} == {Status.PASSED}
    assert wrong(audit(compose_hash=b"\0" * 32)) == {"ecdsa compose hash", "ed25519 compose hash"}
    assert wrong(audit(mrtd=b"\0" * 48)) == {"ecdsa MRTD", "ed25519 MRTD"}


def test_unpinned_guest_image_is_warned_of() -> None:
    rtmrs = dict(enumerate(registers(report()["event_log"])[:3]))
    pinned = audit(mrtd=MRTD, rtmrs=rtmrs)
    assert pinned.ok
    assert UNPINNED_GUEST not in pinned.warnings
    assert all(", as expected" in c.detail for c in pinned.checks if c.name[-5:] in ("RTMR0", "RTMR1", "RTMR2"))
    assert UNPINNED_GUEST in audit(rtmrs=rtmrs).warnings
    for register in rtmrs:
        others = {other: value for other, value in rtmrs.items() if other != register}
        assert UNPINNED_GUEST in audit(mrtd=MRTD, rtmrs=others).warnings
        found = audit(mrtd=MRTD, rtmrs=rtmrs | {register: b"\7" * 48})
        assert wrong(found) == {f"ecdsa RTMR{register}", f"ed25519 RTMR{register}"}


def test_os_image_hash_alone_pins_the_guest_image() -> None:
    found = audit(os_image_hashes=frozenset({OS_IMAGE_HASH}))
    assert found.ok
    assert UNPINNED_GUEST not in found.warnings
    assert status(found, "ecdsa OS image") is Status.PASSED
    other = audit(os_image_hashes=frozenset({b"\7" * 32}))
    assert wrong(other) == {"ecdsa OS image", "ed25519 OS image"}
    in_info = report(vm_config=None, info=report()["info"] | {"vm_config": VM_CONFIG})
    as_object = report(vm_config=json.loads(VM_CONFIG))
    for made in (in_info, as_object):
        assert audit(made, report("ed25519"), os_image_hashes=frozenset({OS_IMAGE_HASH})).ok
    nothings: list[Any] = [None, "", {}, "{", "[]", 5]
    for nothing in nothings:
        silent_host = report(vm_config=nothing)
        assert wrong(audit(silent_host, report("ed25519"), os_image_hashes=frozenset({OS_IMAGE_HASH}))) == {
            "ecdsa OS image"
        }
        assert audit(silent_host, report("ed25519")).ok
    legacy = report(vm_config=json.dumps(json.loads(VM_CONFIG) | {"tdx_attestation_variant": "legacy"}))
    found = audit(legacy, report("ed25519"), os_image_hashes=frozenset({OS_IMAGE_HASH}))
    assert status(found, "ecdsa OS image") is Status.NOT_MADE
    assert not found.ok


def test_unpinned_compose_file_is_warned_of() -> None:
    assert UNPINNED_COMPOSE in audit().warnings
    assert UNPINNED_COMPOSE not in audit(compose_hash=COMPOSE_HASH).warnings


def unpinned(provider: bytes) -> dict[str, Any]:
    """A report of an app that does not say whose keys it takes."""
    compose = json.dumps({"name": "demo"})
    boot = boot_log(compose_hash=hashlib.sha256(compose.encode()).digest(), key_provider=provider)
    return report(events=event_log(boot), info={"tcb_info": {"app_compose": compose}})


def test_unpinned_key_provider_is_warned_of() -> None:
    assert json.loads(APP_COMPOSE)["key_provider_id"] == KMS_ID.hex()
    assert UNPINNED_KEY_PROVIDER not in audit(compose_hash=COMPOSE_HASH).warnings
    made = unpinned(key_provider("kms", KMS_ID))
    found = audit(made, report("ed25519"))
    assert found.ok
    assert status(found, "ecdsa key provider") is Status.NOT_MADE
    assert UNPINNED_KEY_PROVIDER in found.warnings
    for known in (KMS_ID, hashlib.sha256(KMS_ID).digest()):
        pinned = audit(made, report("ed25519"), key_providers=frozenset({known}))
        assert pinned.ok
        assert UNPINNED_KEY_PROVIDER not in pinned.warnings
    found = audit(made, report("ed25519"), key_providers=frozenset({OTHER_KMS_ID}))
    assert wrong(found) == {"ecdsa key provider", "ed25519 key provider"}
    assert UNPINNED_KEY_PROVIDER in found.warnings
    enclave = audit(unpinned(key_provider("local-sgx", b"\6" * 32)), report("ed25519"))
    assert status(enclave, "ecdsa key provider") is Status.NOT_MADE
    assert not enclave.ok
    assert UNPINNED_KEY_PROVIDER in enclave.warnings


def test_key_provider_pinned_only_by_an_unpinned_compose_file_is_warned_of() -> None:
    found = audit()
    assert status(found, "ecdsa key provider") is Status.PASSED
    assert UNPINNED_KEY_PROVIDER in found.warnings
    assert UNPINNED_KEY_PROVIDER not in audit(key_providers=frozenset({KMS_ID})).warnings


def test_another_app_id_than_the_pinned_one_fails() -> None:
    pins: dict[str, Any] = {
        "compose_hash": COMPOSE_HASH,
        "os_image_hashes": frozenset({OS_IMAGE_HASH}),
        "key_providers": frozenset({KMS_ID}),
        "kms_roots": frozenset({ROOT}),
    }
    # The genuine compose file and image, whose keys the KMS has given to the owner of another app id.
    other = b"\7" * 20
    made = report(
        events=event_log(boot_log(app_id=other)),
        app_id=other.hex(),
        signature_chain=signature_chain("ecdsa", app_id=other),
    )
    unpinned = audit(made, report("ed25519"), **pins)
    assert unpinned.ok
    assert UNPINNED_APP in unpinned.warnings
    pinned = audit(made, report("ed25519"), **pins, app_ids=frozenset({APP_ID}))
    assert wrong(pinned) == {"ecdsa app id"}
    assert status(pinned, "ecdsa app id") is Status.FAILED
    both = audit(made, report("ed25519"), **pins, app_ids=frozenset({APP_ID, other}))
    assert both.ok
    assert status(both, "ecdsa app id") is Status.PASSED
    assert UNPINNED_APP not in both.warnings


def test_app_with_the_key_provider_none_needs_no_pinned_app_id() -> None:
    boot = boot_log(compose_hash=hashlib.sha256(b"{}").digest(), key_provider=key_provider("none"), os_image_hash=None)
    made = [report(algo, events=event_log(boot), info={"tcb_info": {"app_compose": "{}"}}) for algo in ALGOS]
    found = audit(*made)
    assert found.ok
    assert not {UNPINNED_APP, UNPINNED_KEY_PROVIDER} & set(found.warnings)
    assert UNPINNED_APP in audit(made[0], report("ed25519")).warnings


def test_os_image_is_not_checked_if_the_compose_file_requires_acpi_measurement() -> None:
    compose = json.dumps({"key_provider_id": KMS_ID.hex(), "requirements": {"tdx_measure_acpi_tables": True}})
    events = event_log(boot_log(compose_hash=hashlib.sha256(compose.encode()).digest()))
    made = report(events=events, info={"tcb_info": {"app_compose": compose}})
    found = audit(made, report("ed25519"), os_image_hashes=frozenset({OS_IMAGE_HASH}))
    assert wrong(found) == {"ecdsa OS image"}
    assert status(found, "ecdsa OS image") is Status.NOT_MADE
    assert audit(made, report("ed25519")).ok


def test_unusual_td_attributes_are_warned_of() -> None:
    assert not any(warning.startswith(UNUSUAL_ATTRIBUTES[:20]) for warning in audit().warnings)
    for attributes in (b"\0\0\1\x10\0\0\0\0", bytes(8)):
        found = audit(report(quoted={"attributes": attributes}), report("ed25519"))
        assert found.ok
        assert UNUSUAL_ATTRIBUTES.format(attributes.hex()) in found.warnings


def test_required_mr_config_id_fails_if_unset() -> None:
    unset = audit(require_mr_config_id=True)
    assert wrong(unset) == {"ecdsa MRCONFIGID", "ed25519 MRCONFIGID"}
    said = {"mr_config_id": b"\1" + COMPOSE_HASH + bytes(15)}
    found = audit(report(quoted=said), report("ed25519", quoted=said), require_mr_config_id=True)
    assert found.ok
    assert status(found, "ecdsa MRCONFIGID") is Status.PASSED


def test_key_chain_is_checked_only_if_a_root_is_expected() -> None:
    found = audit(kms_roots=frozenset({ROOT}))
    assert found.ok
    assert status(found, "ecdsa key chain") is Status.PASSED
    assert wrong(audit(kms_roots=frozenset({b"\2" + b"\7" * 32}))) == {"ecdsa key chain", "ed25519 key chain"}
    for chain in (
        None,
        [],
        "x",
        signature_chain("ecdsa")[:1],
        signature_chain("ecdsa")[::-1],
        signature_chain("ed25519"),
        signature_chain("ecdsa", keys=OTHER_KEYS),
        signature_chain("ecdsa", app_id=b"\7" * 20),
        signature_chain("ecdsa", purpose="other"),
        ["x", signature_chain("ecdsa")[1]],
        [5, 6],
    ):
        bent = report(signature_chain=chain)
        assert wrong(audit(bent, report("ed25519"), kms_roots=frozenset({ROOT}))) == {"ecdsa key chain"}
        assert audit(bent, report("ed25519")).ok


def test_key_chain_must_be_for_the_measured_app_id() -> None:
    other = boot_log(app_id=b"\7" * 20)
    made = report(events=event_log(other), app_id="07" * 20)
    assert wrong(audit(made, report("ed25519"), kms_roots=frozenset({ROOT}))) == {"ecdsa key chain"}
    named = report(events=event_log(other))
    assert wrong(audit(named, report("ed25519"), kms_roots=frozenset({ROOT}))) == {"ecdsa key chain", "ecdsa boot log"}
    chain = signature_chain("ecdsa", app_id=b"\7" * 20)
    assert audit(made | {"signature_chain": chain}, report("ed25519"), kms_roots=frozenset({ROOT})).ok
