"""What the front page takes from a guest's boot log, in a real browser, and each way to show another one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.support.dstack_guest import KMS_KEY, Event, Guest, RuntimeEvent, key_provider, quote, sha256, shown
from tests.e2e.support.front_page import CLAIMS, REGISTERS, check_guest, opened_modules, with_status


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


OPTIONAL: dict[str, tuple[str, RuntimeEvent]] = {
    "init scripts": ("instance-id", ("init-script-hash", b"\1" * 32)),
    "a GPU policy": ("instance-id", ("gpu-policy-hash", b"\2" * 32)),
    "a GPU": ("instance-id", ("gpu-attestation", b"{}")),
    "a KMS of 0.5": ("key-provider", ("mr-kms", b"\3" * 32)),
    "an image": ("key-provider", ("os-image-hash", b"\4" * 32)),
    "storage": ("system-ready", ("storage-fs", b"ext4")),
}


def test_boot_log_with_optional_events_holds(page: Page) -> None:
    for some in (list(OPTIONAL.values()), *([each] for each in OPTIONAL.values())):
        found = check_guest(page, Guest(optional=tuple(some)).report())
        assert with_status(found, "holds") == {*REGISTERS, "boot log", "compose hash"}
    thrice = [OPTIONAL[name] for name in ("init scripts", "a KMS of 0.5") for _ in range(3)]
    assert check_guest(page, Guest(optional=tuple(thrice)).report())["boot log"][0] == "holds"


def test_boot_log_with_an_empty_instance_id_holds(page: Page) -> None:
    unnamed = [(name, b"" if name == "instance-id" else payload) for name, payload in Guest().boot]
    found = check_guest(page, Guest().report(unnamed))
    assert found["boot log"][0] == "holds"
    assert found["boot log"][1].endswith("instance unnamed")


def swapped(events: list[RuntimeEvent], number: int) -> list[RuntimeEvent]:
    return [*events[:number], events[number + 1], events[number], *events[number + 2 :]]


WHOLE = Guest(optional=tuple(OPTIONAL.values())).boot
AT = {name: number for number, (name, _) in enumerate(WHOLE)}


def with_payload(name: str, payload: bytes) -> list[RuntimeEvent]:
    return [(each, payload if each == name else its) for each, its in WHOLE]


OTHER_BOOTS: dict[str, list[RuntimeEvent]] = {
    "nothing": [],
    **{f"no {name}": [event for event in WHOLE if event[0] != name] for name in dict(Guest().boot)},
    **{f"two {name}": [*WHOLE[:at], WHOLE[at], *WHOLE[at:]] for name, at in AT.items() if name not in
       ("init-script-hash", "mr-kms", "system-ready")},
    **{f"{name} too late": swapped(WHOLE, at) for name, at in AT.items() if name not in
       ("storage-fs", "system-ready")},
    **{f"a byte more of {name}": with_payload(name, payload + b"}") for name, payload in WHOLE if
       name != "gpu-attestation"},
    "six init scripts": [*WHOLE[:3], *[("init-script-hash", b"\1" * 32)] * 5, *WHOLE[3:]],
    "nine mr-kms": [*WHOLE[: AT["mr-kms"]], *[("mr-kms", b"\3" * 32)] * 8, *WHOLE[AT["mr-kms"] :]],
    "no app id": with_payload("app-id", b""),
    "an unknown event": [*WHOLE[:4], ("app-event", b""), *WHOLE[4:]],
    "an event before all": [("app-event", b""), *WHOLE],
    "an empty GPU attestation": with_payload("gpu-attestation", b""),
    "a long GPU attestation": with_payload("gpu-attestation", b" " * 4097),
    "another file system": with_payload("storage-fs", b"xfs"),
    "an unknown provider": with_payload("key-provider", key_provider("rogue", KMS_KEY)),
    "a KMS without a key": with_payload("key-provider", key_provider("kms")),
    "no provider, with a key": with_payload("key-provider", key_provider("none", KMS_KEY)),
    "a provider with more to it": with_payload("key-provider", b'{"name":"kms","id":"00","id":"01"}'),
    "a provider in capitals": with_payload("key-provider", b'{"name":"kms","id":"AB"}'),
    "half a byte of an id": with_payload("key-provider", b'{"name":"kms","id":"abc"}'),
    "a provider that is no JSON": with_payload("key-provider", b"kms"),
    "a line end behind the provider": with_payload("key-provider", key_provider("none") + b"\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER_BOOTS)
def test_malformed_boot_log_fails_every_claim_and_no_register(page: Page, what: str) -> None:
    found = check_guest(page, Guest().report(OTHER_BOOTS[what]))
    assert with_status(found, "fails") == CLAIMS
    assert with_status(found, "holds") == REGISTERS


def test_events_after_system_ready_do_not_override_boot_measurements(page: Page) -> None:
    """After system-ready an app may measure anything, and none of it counts."""
    evil = Guest(later=(("compose-hash", sha256("{}")), ("key-provider", key_provider("none")), ("system-ready", b"")))
    report = evil.report() | {"info": {"tcb_info": {"app_compose": "{}"}}}
    found = check_guest(page, report)
    assert with_status(found, "fails") == {"compose hash", "key provider"}
    assert check_guest(page, evil.report())["compose hash"][0] == "holds"


def test_compose_hash_disguised_with_a_colon_fails_every_claim(page: Page, dstack_vectors: dict[str, Any]) -> None:
    attack = dstack_vectors["colon_relabel_attack"]
    measured = quote([*[bytes(48)] * 3, bytes.fromhex(attack["rtmr3"])], bytes(48)).hex()
    info = {"tcb_info": {"app_compose": attack["good_app_compose"]}}
    found = check_guest(page, {"intel_quote": measured, "event_log": attack["shown_log"], "info": info})
    assert found["RTMR3"][0] == "holds"
    assert with_status(found, "fails") == CLAIMS
    # This log is of a guest without a key provider, which is none either.
    assert "has compose-hash: where compose-hash should be" in found["boot log"][1]


def test_key_provider_event_under_another_name_fails_every_claim(page: Page, dstack_vectors: dict[str, Any]) -> None:
    relabelled = dstack_vectors["key_provider_relabel"]
    true, false = (
        (name, bytes.fromhex(payload)) for name, payload in (relabelled["true"], relabelled["same_digest_as"])
    )
    guest = Guest(provider=true[1])
    assert guest.boot[5] == true
    later = [("key-provider", key_provider("none")), ("system-ready", b"")]
    log = [shown(event) for event in [*guest.boot[:5], false, *guest.boot[6:], *later]]
    found = check_guest(page, replace(guest, later=tuple(later)).report(log=log))
    assert found["RTMR3"][0] == "holds"
    assert with_status(found, "fails") == CLAIMS


def test_event_log_that_does_not_replay_fails_every_claim(page: Page) -> None:
    guest = Guest().with_config(1, sha256(Guest().app_compose))
    log: list[Event] = [shown(event) for event in guest.boot[:-1]]
    found = check_guest(page, guest.report(log=[*log, shown(("app", b"")), shown(guest.boot[-1])]))
    assert with_status(found, "fails") == {"RTMR3", *CLAIMS, "MRCONFIGID"}
