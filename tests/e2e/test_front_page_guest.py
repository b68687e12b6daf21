"""What the front page checks of a guest, in a real browser: its app, who gave it its keys, and its MRCONFIGID."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.support.dstack_guest import APP_ID, INSTANCE_ID, KMS_KEY, Guest, key_provider, sha256
from tests.e2e.support.front_page import check_guest, opened_modules, with_status


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


def test_report_naming_an_unmeasured_app_fails_the_boot_log_check(page: Page) -> None:
    report = Guest().report()
    assert check_guest(page, report | {"app_id": APP_ID.hex()})["boot log"][0] == "holds"
    for other in (APP_ID.hex()[:-2], INSTANCE_ID.hex(), "", 7):
        assert with_status(check_guest(page, report | {"app_id": other}), "fails") == {"boot log"}


@pytest.mark.parametrize(
    "info", [None, {}, {"tcb_info": "{"}, {"tcb_info": {}}, {"tcb_info": {"app_compose": 7}}, {"tcb_info": None}]
)
def test_report_without_a_compose_file_fails_compose_hash_and_key_provider(page: Page, info: object) -> None:
    found = check_guest(page, Guest().report() | {"info": info})
    assert with_status(found, "fails") == {"compose hash", "key provider"}


def pinning(provider_id: object) -> str:
    return json.dumps({"name": "demo", "key_provider_id": provider_id})


SGX = key_provider("local-sgx", b"\5" * 32)
PROVIDERS: dict[str, tuple[str, bytes, str, str]] = {
    "a KMS that the compose file names": (
        pinning(KMS_KEY.hex()),
        Guest.provider,
        "holds",
        "requires (key_provider_id)",
    ),
    "the same in capitals": (pinning(KMS_KEY.hex().upper()), Guest.provider, "holds", "requires"),
    "another KMS": (pinning("00"), Guest.provider, "fails", "the compose file requires 00"),
    "a KMS where none is named": ("{}", Guest.provider, "not made", "tee-verify --expect-key-provider settles it"),
    "a KMS where the name is empty": (pinning(""), Guest.provider, "not made", "any KMS of the host's choice"),
    "a KMS where the name is a number": (pinning(0), Guest.provider, "fails", "key_provider_id of app_compose is not"),
    "a compose file that is no JSON": ("name: demo", Guest.provider, "fails", ""),
    "keys of its own": ("{}", key_provider("none"), "holds", "random keys"),
    "keys of its own where a KMS is named": (pinning("00"), key_provider("none"), "fails", "requires 00"),
    "a TPM": ("{}", key_provider("tpm"), "fails", "a program of the host"),
    "an enclave": ("{}", SGX, "not made", "the host may have chosen it"),
    "an enclave that is named": (pinning("05" * 32), SGX, "not made", "--expect-key-provider"),
    "another enclave": (pinning("06" * 32), SGX, "fails", "requires"),
}


@pytest.mark.parametrize("what", PROVIDERS)
def test_key_provider_holds_only_if_the_compose_file_names_it_or_it_is_none(page: Page, what: str) -> None:
    app_compose, provider, status, detail = PROVIDERS[what]
    found = check_guest(page, Guest(app_compose, provider).report())
    assert found["compose hash"][0] == "holds"
    assert found["key provider"][0] == status
    assert detail in found["key provider"][1]


def document(**members: object) -> str:
    return json.dumps(members, separators=(",", ":"))


GUEST = Guest(
    optional=(
        ("instance-id", ("init-script-hash", b"\1" * 32)),
        ("instance-id", ("gpu-policy-hash", b"\2" * 32)),
    )
)
COMPOSE_HASH = sha256(GUEST.app_compose)
ALL_MEMBERS: dict[str, object] = {
    "version": 3,
    "app_id": APP_ID.hex(),
    "compose_hash": COMPOSE_HASH.hex(),
    "key_provider": "kms",
    "key_provider_id": KMS_KEY.hex(),
    "instance_id": INSTANCE_ID.hex(),
    "gpu_policy_hash": "02" * 32,
    "init_script_hashes": ["01" * 32],
}
OTHER_VALUES: dict[str, tuple[object, ...]] = {"init_script_hashes": (None, "01" * 32, [], ["00" * 32])}
FEW_MEMBERS = {name: ALL_MEMBERS[name] for name in ("version", "compose_hash", "key_provider")}


def version_3(**members: object) -> Guest:
    text = document(**members)
    return GUEST.with_config(3, sha256(f"dstack-mr-config-v3:\0{text}"), text)


CONFIGURATIONS: dict[str, tuple[Guest, str]] = {
    "unset": (GUEST, "not made"),
    "version 1": (GUEST.with_config(1, COMPOSE_HASH), "holds"),
    "version 1 of another app": (GUEST.with_config(1, sha256("{}")), "fails"),
    "version 1 and more": (GUEST.with_config(1, COMPOSE_HASH + b"\1"), "fails"),
    "version 1 and a last byte": (GUEST.with_config(1, COMPOSE_HASH.ljust(46, b"\0") + b"\1"), "fails"),
    "version 2": (GUEST.with_config(2, COMPOSE_HASH), "not made"),
    "version 2 and more": (GUEST.with_config(2, COMPOSE_HASH + b"\1"), "fails"),
    "version 3": (version_3(**ALL_MEMBERS), "holds"),
    "version 3 with few members": (version_3(**FEW_MEMBERS), "holds"),
    "version 3 of another document": (replace(version_3(**ALL_MEMBERS), vm_config={"mr_config": "{}"}), "fails"),
    "version 3 of the same document in other bytes": (
        replace(version_3(**ALL_MEMBERS), vm_config={"mr_config": document(**ALL_MEMBERS) + " "}),
        "fails",
    ),
    "version 3 without a document": (replace(version_3(**ALL_MEMBERS), vm_config={}), "fails"),
    "version 3 with an unknown member": (version_3(**FEW_MEMBERS, debug=True), "fails"),
    "version 3 with an odd member": (version_3(**FEW_MEMBERS, __proto__={}), "fails"),
    "version 3 without a compose hash": (version_3(version=3, key_provider="kms"), "fails"),
    "version 3 without a key provider": (version_3(version=3, compose_hash=COMPOSE_HASH.hex()), "fails"),
    **{
        f"version 3 with another {name}": (version_3(**{**ALL_MEMBERS, name: other}), "fails")
        for name in ALL_MEMBERS
        for other in OTHER_VALUES.get(name, ("00" * 32,))
    },
    "version 3 with an enclave": (replace(version_3(**FEW_MEMBERS | {"key_provider": "local"}), provider=SGX), "holds"),
    "version 3 with an enclave as the log names it": (
        replace(version_3(**FEW_MEMBERS | {"key_provider": "local-sgx"}), provider=SGX),
        "fails",
    ),
    "version 3, a member that was not measured": (
        replace(version_3(**FEW_MEMBERS, gpu_policy_hash="02" * 32), optional=()),
        "fails",
    ),
    "version 4": (GUEST.with_config(4, COMPOSE_HASH), "fails"),
    "version 0 and more": (GUEST.with_config(0, COMPOSE_HASH), "fails"),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_mrconfigid_holds_only_where_it_names_what_was_measured(page: Page, what: str) -> None:
    guest, status = CONFIGURATIONS[what]
    report = guest.report()
    assert check_guest(page, report)["MRCONFIGID"][0] == status
    in_info = report | {"vm_config": None, "info": {**report["info"], "vm_config": report["vm_config"]}}
    assert check_guest(page, in_info)["MRCONFIGID"][0] == status


def test_mrconfigid_is_hashed_as_dstack_does(page: Page, dstack_vectors: dict[str, Any]) -> None:
    configurations = dstack_vectors["mr_config_id"]
    digests = [bytes.fromhex(configurations[version])[1:33] for version in ("v1", "v3")]
    text = configurations["v3_document"]
    assert configurations["inputs"]["compose_hash"] == digests[0].hex()
    assert sha256(f"dstack-mr-config-v3:\0{text}") == digests[1], "the tests hash as dstack does"
    found = check_guest(page, GUEST.with_config(3, digests[1], text).report())
    # It is the document's hash; the document is about another app.
    assert found["MRCONFIGID"][1].endswith("in its document is not what was measured")
