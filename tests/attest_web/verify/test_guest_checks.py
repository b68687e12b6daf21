"""The checks of a guest together: of real ones, of one that holds, and of each lie alone."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.dstack.event_log import Event, parse_event_log
from attest_web.verify.guest_checks import guest_checks, quote_checks
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, NotMadeError, Status, all_hold
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.minting import (
    APP_COMPOSE,
    APP_ID,
    COMPOSE_HASH,
    DSTACK_VECTORS,
    FIRMWARE_EVENTS,
    KMS_ID,
    MRTD,
    OS_IMAGE_HASH,
    OTHER_KMS_ID,
    VM_CONFIG,
    as_version_5,
    boot_log,
    event_log,
    key_provider,
    quote,
    registers,
    runtime_log,
)

Shown = list[dict[str, Any]]

PINNED: dict[str, Any] = {
    "compose_hash": COMPOSE_HASH,
    "mrtd": MRTD,
    "rtmrs": dict(enumerate(registers(FIRMWARE_EVENTS)[:3])),
    "os_image_hashes": frozenset({OS_IMAGE_HASH}),
    "app_ids": frozenset({APP_ID}),
    "key_providers": frozenset({KMS_ID}),
    "require_mr_config_id": True,
}
MR_CONFIG_ID = b"\1" + COMPOSE_HASH + bytes(15)


@dataclass
class Guest:
    """A guest that holds; what has happened is in its quote, what is shown is `log`."""

    happened: Shown = field(default_factory=event_log)
    log: Shown | None = None
    quoted: dict[str, bytes] = field(default_factory=dict)
    service_td: bytes = bytes(48)
    app_compose: str | None = APP_COMPOSE
    app_id: bytes | None = APP_ID
    vm_config: dict[str, Any] = field(default_factory=lambda: json.loads(VM_CONFIG))

    @property
    def quote_bytes(self) -> bytes:
        fields = {"mr_config_id": MR_CONFIG_ID} | self.quoted
        return as_version_5(quote(b"R" * 64, registers(self.happened), **fields), self.service_td)

    @property
    def quote(self) -> TdxQuote:
        return TdxQuote.parse(self.quote_bytes)

    @property
    def events(self) -> list[Event]:
        return parse_event_log(self.happened if self.log is None else self.log)


def policy(**demands: Any) -> Policy:
    return Policy(lambda _: QuoteVerdict("UpToDate"), **demands)


def checked(guest: Guest, *, whole_log: bool = True, **demands: Any) -> dict[str, Check]:
    checks = guest_checks("", guest, policy(**demands), whole_log=whole_log)
    return {check.name.strip(): check for check in checks}


def wrong(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if not check.holds}


def test_valid_guest_passes_every_check() -> None:
    found = checked(Guest(), **PINNED)
    assert {check.status for check in found.values()} == {Status.PASSED}
    assert list(found) == [
        *("TD debug", "TD owner", "RTMR0", "RTMR1", "RTMR2", "RTMR3", "boot log", "app id", "compose hash"),
        *("key provider", "MRCONFIGID", "MRTD", "OS image"),
    ]


def test_checks_that_the_policy_does_not_demand_are_not_made() -> None:
    found = checked(Guest(quoted={"mr_config_id": bytes(48)}))
    left = {name for name, check in found.items() if check.status is Status.NOT_MADE}
    assert left == {"app id", "MRCONFIGID", "MRTD", "OS image"}
    assert not wrong(found)


OTHER_COMPOSE = json.dumps({"name": "other", "key_provider_id": KMS_ID.hex()})

OF_THE_BOOT = {"boot log", "app id", "compose hash", "key provider", "MRCONFIGID", "OS image"}
"""The checks that take what they hold from the boot log."""

LIES: dict[str, tuple[set[str], Guest]] = {
    "debug": ({"TD debug"}, Guest(quoted={"attributes": b"\1\0\0\x10\0\0\0\0"})),
    "MROWNER": ({"TD owner"}, Guest(quoted={"mr_owner": b"\1" * 48})),
    "MROWNERCONFIG": ({"TD owner"}, Guest(quoted={"mr_owner_config": b"\1" * 48})),
    "a service TD": ({"TD owner"}, Guest(service_td=b"\1" * 48)),
    "firmware": ({"RTMR0", "OS image"}, Guest([{**event_log()[0], "digest": "07" * 48}, *event_log()[1:]])),
    "firmware, shown as the known one": (
        {"RTMR0", "OS image"},
        Guest([{**event_log()[0], "digest": "07" * 48}, *event_log()[1:]], event_log()),
    ),
    "firmware that is not shown": ({"RTMR0"}, Guest(log=event_log()[1:])),
    "kernel that is not shown": (
        {"RTMR1"},
        Guest(log=[event for event in event_log() if event["imr"] != 1]),
    ),
    "command line that is not shown": (
        {"RTMR2"},
        Guest(log=[event for event in event_log() if event["imr"] != 2]),
    ),
    "MRTD": ({"MRTD", "OS image"}, Guest(quoted={"mrtd": b"\7" * 48})),
    "log of RTMR3 that did not happen": (
        {"RTMR3", *OF_THE_BOOT},
        Guest(event_log([*boot_log(), ("a", b"b")]), event_log()),
    ),
    "boot that dstack does not make": (
        OF_THE_BOOT,
        Guest(event_log([*boot_log()[:-1], ("a", b"b"), boot_log()[-1]])),
    ),
    "app id that was not measured": ({"boot log"}, Guest(app_id=b"\7" * 20)),
    "another app id": ({"app id"}, Guest(event_log(boot_log(app_id=b"\7" * 20)), app_id=b"\7" * 20)),
    "compose document": ({"compose hash", "key provider", "OS image"}, Guest(app_compose=OTHER_COMPOSE)),
    "another app": (
        {"compose hash", "key provider", "MRCONFIGID", "OS image"},
        Guest(event_log(boot_log(compose_hash=b"\7" * 32))),
    ),
    "another KMS": (
        {"key provider"},
        Guest(event_log(boot_log(key_provider=key_provider("kms", OTHER_KMS_ID)))),
    ),
    "no KMS": ({"key provider"}, Guest(event_log(boot_log(key_provider=key_provider("none"), os_image_hash=None)))),
    "enclave of the host": (
        {"key provider"},
        Guest(event_log(boot_log(key_provider=key_provider("local-sgx", b"\6" * 32)))),
    ),
    "TPM of the host": ({"key provider"}, Guest(event_log(boot_log(key_provider=key_provider("tpm"))))),
    "MRCONFIGID of another app": ({"MRCONFIGID"}, Guest(quoted={"mr_config_id": b"\1" + b"\7" * 32 + bytes(15)})),
    "MRCONFIGID that is unset": ({"MRCONFIGID"}, Guest(quoted={"mr_config_id": bytes(48)})),
    "MRCONFIGID of a document that is not there": (
        {"MRCONFIGID"},
        Guest(quoted={"mr_config_id": b"\3" + COMPOSE_HASH + bytes(15)}),
    ),
    "image": ({"OS image"}, Guest(vm_config=json.loads(VM_CONFIG) | {"os_image_hash": "07" * 32})),
    "no word about the image": ({"OS image"}, Guest(vm_config={})),
    "memory": ({"OS image"}, Guest(vm_config=json.loads(VM_CONFIG) | {"memory_size": 3 << 30})),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_false_statement_fails_the_checks_that_cover_it(lie: str) -> None:
    told, guest = LIES[lie]
    found = checked(guest, **PINNED)
    assert wrong(found) == told
    assert {found[name].status for name in told} == {Status.FAILED}


@pytest.mark.parametrize(
    ("name", "demand"),
    [
        ("compose hash", {"compose_hash": b"\7" * 32}),
        ("MRTD", {"mrtd": b"\7" * 48}),
        ("RTMR0", {"rtmrs": {0: b"\7" * 48}}),
        ("RTMR1", {"rtmrs": {1: b"\7" * 48}}),
        ("RTMR2", {"rtmrs": {2: b"\7" * 48}}),
        ("OS image", {"os_image_hashes": frozenset({b"\7" * 32})}),
        ("app id", {"app_ids": frozenset({b"\7" * 20})}),
        ("key provider", {"key_providers": frozenset({OTHER_KMS_ID})}),
    ],
)
@pytest.mark.parametrize("whole_log", [True, False], ids=["report", "certificate"])
def test_valid_guest_fails_the_check_of_another_expected_value(
    name: str, demand: dict[str, Any], whole_log: bool
) -> None:
    assert wrong(checked(Guest(), whole_log=whole_log, **(PINNED | demand))) == {name}


@pytest.mark.parametrize("version", [1, 2])
def test_certificate_event_log_without_firmware_events_is_accepted_only_as_such(version: int) -> None:
    acpi = [event for event in FIRMWARE_EVENTS if event["event"]]
    guest = Guest(event_log(version=version), [*acpi, *runtime_log(boot_log(), version)])
    assert wrong(checked(guest, **PINNED)) == {"RTMR0", "RTMR1", "RTMR2"}
    assert not wrong(checked(guest, whole_log=False, **PINNED))
    found = checked(guest, whole_log=False)
    assert not wrong(found)
    assert {found[f"RTMR{register}"].status for register in range(3)} == {Status.NOT_MADE}
    assert found["RTMR3"].status is Status.PASSED
    other = Guest(event_log([*boot_log(), ("a", b"b")], version), guest.log)
    assert "RTMR3" in wrong(checked(other, whole_log=False))


def test_compose_document_not_shown_pins_no_key_provider() -> None:
    hidden = checked(Guest(app_compose=None), compose_hash=COMPOSE_HASH)
    assert not wrong(hidden)
    assert (hidden["key provider"].status, hidden["key provider"].asked) == (Status.NOT_MADE, False)
    unknown = checked(Guest(app_compose=None))
    assert wrong(unknown) == {"compose hash"}
    assert unknown["compose hash"].status is Status.NOT_MADE


def with_compose(provider: bytes = key_provider("kms", KMS_ID), **members: Any) -> Guest:
    """A guest whose measured compose document has these members, and that has its keys from this provider."""
    document = json.dumps({"name": "demo", **members})
    boot = boot_log(compose_hash=hashlib.sha256(document.encode()).digest(), key_provider=provider)
    return Guest(event_log(boot), quoted={"mr_config_id": bytes(48)}, app_compose=document)


def test_a_compose_document_that_demands_another_key_provider_fails() -> None:
    assert checked(with_compose(key_provider_id=KMS_ID.hex()))["key provider"].status is Status.PASSED
    for malformed in (OTHER_KMS_ID.hex(), "07", "x", 7, ["07"]):
        assert wrong(checked(with_compose(key_provider_id=malformed))) == {"key provider"}
    for nothing in ({}, {"key_provider_id": ""}, {"key_provider_id": None}):
        left = checked(with_compose(**nothing))["key provider"]
        assert (left.status, left.asked) == (Status.NOT_MADE, False)
        found = checked(with_compose(**nothing), key_providers=frozenset({KMS_ID}))
        assert found["key provider"].status is Status.PASSED


def test_key_provider_none_passes_unless_the_compose_document_pins_one() -> None:
    assert checked(with_compose(key_provider("none")))["key provider"].status is Status.PASSED
    for demand in (KMS_ID.hex(), "07" * 32):
        assert wrong(checked(with_compose(key_provider("none"), key_provider_id=demand))) == {"key provider"}


def test_key_provider_local_sgx_passes_only_if_expected() -> None:
    guest = with_compose(key_provider("local-sgx", b"\6" * 32))
    found = checked(guest)
    assert wrong(found) == {"key provider"}
    assert found["key provider"].status is Status.NOT_MADE
    assert not wrong(checked(guest, key_providers=frozenset({b"\6" * 32})))


def test_os_image_is_not_checked_if_the_compose_document_requires_acpi_measurement() -> None:
    # The host alone says that the guest was started in the variant in which they are not.
    image: dict[str, Any] = {"os_image_hashes": frozenset({OS_IMAGE_HASH})}
    found = checked(with_compose(requirements={"tdx_measure_acpi_tables": True}), **image)
    assert wrong(found) == {"OS image"}
    assert found["OS image"].status is Status.NOT_MADE
    assert "tdx_measure_acpi_tables" in found["OS image"].detail
    for said in ({"tdx_measure_acpi_tables": False}, {}, None, ["tdx_measure_acpi_tables"]):
        assert checked(with_compose(requirements=said), **image)["OS image"].status is Status.PASSED


def test_mr_config_id_version_3_is_checked_against_the_document_in_vm_config() -> None:
    document = json.dumps({"version": 3, "compose_hash": COMPOSE_HASH.hex(), "key_provider": "kms"})
    value = b"\3" + hashlib.sha256(b"dstack-mr-config-v3:\0" + document.encode()).digest() + bytes(15)
    config = json.loads(VM_CONFIG)
    assert not wrong(checked(Guest(quoted={"mr_config_id": value}, vm_config=config | {"mr_config": document})))
    for other in (document + " ", None, "", 5, {"version": 3}):
        guest = Guest(quoted={"mr_config_id": value}, vm_config=config | {"mr_config": other})
        assert wrong(checked(guest)) == {"MRCONFIGID"}


REAL = {
    "0.6.0 guest": DSTACK_VECTORS["real_quotes"]["tdx-lite-getquote.json"]["response"],
    "0.5 guest": DSTACK_VECTORS["real_quotes"]["quote-report.json"]["response"],
    "agent V1": DSTACK_VECTORS["real_agent"]["v1"]["GetQuote"],
    "agent V2": DSTACK_VECTORS["real_agent"]["v2"]["GetQuote"],
}


@dataclass
class RealGuest:
    """A guest as it has answered."""

    response: dict[str, Any]
    app_compose: str | None = None
    app_id: bytes | None = None

    @property
    def quote_bytes(self) -> bytes:
        return bytes.fromhex(self.response["quote"])

    @property
    def quote(self) -> TdxQuote:
        return TdxQuote.parse(self.quote_bytes)

    @property
    def events(self) -> list[Event]:
        return parse_event_log(json.loads(self.response["event_log"]))

    @property
    def vm_config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.response["vm_config"])
        return config


@pytest.mark.parametrize(
    ("name", "left", "undecided"),
    [
        ("0.6.0 guest", {"MRTD", "key provider"}, set()),
        ("0.5 guest", {"MRTD", "MRCONFIGID", "key provider"}, {"key provider"}),  # an enclave that has to be named
        ("agent V1", {"MRTD", "MRCONFIGID", "key provider"}, set()),
        ("agent V2", {"MRTD", "MRCONFIGID", "key provider"}, set()),
    ],
)
def test_real_guests_fail_no_check(name: str, left: set[str], undecided: set[str]) -> None:
    guest = RealGuest(REAL[name])
    compose_hash = next(event.payload for event in guest.events if event.name == "compose-hash")
    checks = {each.name.strip(): each for each in guest_checks("", guest, policy(compose_hash=compose_hash))}
    assert {check.name.strip() for check in checks.values() if check.status is Status.NOT_MADE} == left | {
        "OS image",
        "app id",
    }
    assert wrong(checks) == undecided


def test_os_image_of_real_guests_is_checked() -> None:
    for name, status in (
        ("0.6.0 guest", Status.PASSED),
        ("0.5 guest", Status.NOT_MADE),
        ("agent V1", Status.FAILED),  # its vm_config is another image's
    ):
        guest = RealGuest(REAL[name])
        image = bytes.fromhex(guest.vm_config["os_image_hash"])
        found = guest_checks("", guest, policy(os_image_hashes=frozenset({image})))
        assert [check.status for check in found if check.name == " OS image"] == [status]


def test_the_origin_of_the_quote_is_checked() -> None:
    signature, tcb = quote_checks("a", Guest(), policy())
    assert (signature.name, signature.status) == ("a quote signature", Status.PASSED)
    assert (tcb.name, tcb.status, tcb.detail) == ("a TCB status", Status.PASSED, "UpToDate")
    for status, advisories, told in (
        ("OutOfDate", (), "OutOfDate;"),
        ("Revoked", ("INTEL-SA-1",), "Revoked, INTEL-SA-1;"),
    ):
        verdict = QuoteVerdict(status, advisories)
        signature, tcb = quote_checks("a", Guest(), Policy(lambda _, said=verdict: said))  # type: ignore[misc]
        assert (signature.status, tcb.status) == (Status.PASSED, Status.FAILED)
        assert tcb.detail.startswith(told)
    allowed = Policy(lambda _: QuoteVerdict("OutOfDate"), allowed_tcb=frozenset({"OutOfDate"}))
    assert all_hold(quote_checks("a", Guest(), allowed))


def test_a_quote_that_cannot_be_checked_leaves_its_tcb_open() -> None:
    def no_collateral(quote: bytes) -> QuoteVerdict:
        raise NotMadeError("no collateral")

    signature, tcb = quote_checks("a", Guest(), Policy(no_collateral))
    assert (signature.status, tcb.status) == (Status.NOT_MADE, Status.NOT_MADE)
    assert not signature.holds
    assert not tcb.holds


def test_sgx_quote_fails_without_reaching_the_quote_verifier() -> None:
    def reached(quote: bytes) -> QuoteVerdict:
        raise AssertionError

    class SgxGuest(Guest):
        @property
        def quote_bytes(self) -> bytes:
            return b"\3\0\2\0\0\0\0\0" + bytes(1000)

    signature, tcb = quote_checks("a", SgxGuest(), Policy(reached))
    assert (signature.status, tcb.status) == (Status.FAILED, Status.NOT_MADE)
    assert "not a TDX quote" in signature.detail
