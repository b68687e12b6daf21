"""The program in docs/verifiers.md that replays an event log: real guests pass it, and forged logs do not."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.doc_blocks import Page
from tests.e2e.support.dstack_guest import Event, Guest, RuntimeEvent, key_provider, quote, sha256, shown
from tests.support.limits import limit

[PROGRAM] = Page("verifiers.md").blocks("python")
Run = Callable[[dict[str, Any]], "subprocess.CompletedProcess[str]"]

NOT_BOOTED = "AssertionError: these are not the events of dstack's boot"
OTHER_COMPOSE = "AssertionError: another compose file was measured"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the program beside a report."""

    def program(report: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "report.json").write_text(json.dumps(report))
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=limit(20), check=False)

    return program


def refusal(run: Run, report: dict[str, Any]) -> str:
    """The last line that the program says when it refuses."""
    done = run(report)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()[-1]


def answered(answer: dict[str, Any], app_compose: str) -> dict[str, Any]:
    """A report of what a guest agent has answered."""
    info = {"tcb_info": {"app_compose": app_compose}}
    return {"intel_quote": answer["quote"], "event_log": answer["event_log"], "info": info}


def test_responses_of_real_guest_agents_pass(run: Run, dstack_vectors: dict[str, Any]) -> None:
    older, newer = (dstack_vectors["real_agent"][version] for version in ("v1", "v2"))
    info = older["Info_without_app_cert"]
    done = run(answered(older["GetQuote"], "") | {"info": info})
    assert done.returncode == 0, done.stderr
    tcb_info = json.loads(info["tcb_info"])
    assert done.stdout.splitlines() == [
        f"MRTD {tcb_info['mrtd']}",
        f"app id {info['app_id']}",
        f"mr_config_id {'00' * 48}",
        f"key provider {info['key_provider_info']}",
        f"this was started: {tcb_info['app_compose']}",
    ]
    done = run(answered(newer["GetQuote"], newer["app_compose"]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("capture", ["tdx-lite-getquote.json", "quote-report.json"])
def test_quotes_of_real_guests_pass_all_but_the_compose_check(
    run: Run, dstack_vectors: dict[str, Any], capture: str
) -> None:
    response = dstack_vectors["real_quotes"][capture]["response"]
    for log in (response["event_log"], json.loads(response["event_log"])):
        # Nobody has their compose files. That is asked last, so all the rest holds.
        assert refusal(run, answered(response | {"event_log": log}, "{}")) == OTHER_COMPOSE


def test_guest_with_every_optional_event_passes(run: Run) -> None:
    optional: tuple[tuple[str, RuntimeEvent], ...] = (
        ("instance-id", ("init-script-hash", b"\1" * 32)),
        ("instance-id", ("init-script-hash", b"\2" * 32)),
        ("instance-id", ("gpu-policy-hash", b"\3" * 32)),
        ("instance-id", ("gpu-attestation", b"{}")),
        ("key-provider", ("mr-kms", b"\4" * 32)),
        ("key-provider", ("os-image-hash", b"\5" * 32)),
        ("system-ready", ("storage-fs", b"zfs")),
    )
    later = (("an app's", b"event: any"), ("compose-hash", sha256("{}")), ("key-provider", key_provider("none")))
    guest = Guest(optional=optional, later=later).with_config(1, sha256(Guest().app_compose))
    done = run(guest.report())
    assert done.returncode == 0, done.stderr
    assert f"key provider {guest.provider.decode()}\n" in done.stdout
    assert f"mr_config_id 01{sha256(guest.app_compose).hex()}{'00' * 15}\n" in done.stdout


def test_compose_hash_measured_after_boot_is_ignored(run: Run) -> None:
    report = Guest(later=(("compose-hash", sha256("{}")), ("system-ready", b""))).report()
    assert refusal(run, report | {"info": {"tcb_info": {"app_compose": "{}"}}}) == OTHER_COMPOSE


def test_compose_hash_disguised_with_a_colon_is_refused(run: Run, dstack_vectors: dict[str, Any]) -> None:
    attack = dstack_vectors["colon_relabel_attack"]
    measured = quote([*[bytes(48)] * 3, bytes.fromhex(attack["rtmr3"])], bytes(48)).hex()
    report = answered({"quote": measured, "event_log": attack["shown_log"]}, attack["good_app_compose"])
    assert refusal(run, report) == NOT_BOOTED


def test_key_provider_event_under_another_name_is_refused(run: Run, dstack_vectors: dict[str, Any]) -> None:
    relabelled = dstack_vectors["key_provider_relabel"]
    false = relabelled["same_digest_as"][0], bytes.fromhex(relabelled["same_digest_as"][1])
    later = (("key-provider", key_provider("none")), ("system-ready", b""))
    guest = replace(Guest(), provider=bytes.fromhex(relabelled["true"][1]), later=later)
    assert guest.boot[5][0] == relabelled["true"][0]
    log = [shown(event) for event in [*guest.boot[:5], false, *guest.boot[6:], *later]]
    assert refusal(run, guest.report(log=log)) == NOT_BOOTED


BOOT = Guest().boot
OTHER_BOOTS: dict[str, list[RuntimeEvent]] = {
    **{f"no {name}": [event for event in BOOT if event[0] != name] for name, _ in BOOT[:-1]},
    **{f"two {name}": [*BOOT[: at + 1], *BOOT[at:]] for at, (name, _) in enumerate(BOOT[:-1])},
    **{f"{BOOT[at][0]} too late": [*BOOT[:at], BOOT[at + 1], BOOT[at], *BOOT[at + 2 :]] for at in range(len(BOOT) - 2)},
    **{
        f"a byte more of {name}": [(each, its + b"\0" * (each == name)) for each, its in BOOT]
        for name, _ in BOOT
        if name != "key-provider"
    },
    "an unknown event": [*BOOT[:2], ("app-event", b""), *BOOT[2:]],
    "two events in the name of one": [(f"{BOOT[0][0]} 0 {BOOT[1][0]}", BOOT[1][1]), *BOOT[2:]],
    "six init scripts": [*BOOT[:3], *[("init-script-hash", b"\1" * 32)] * 6, *BOOT[3:]],
}


@pytest.mark.parametrize("what", OTHER_BOOTS)
def test_malformed_boot_log_is_refused(run: Run, what: str) -> None:
    assert refusal(run, Guest().report(OTHER_BOOTS[what])) == NOT_BOOTED


def test_boot_log_without_its_last_event_is_refused(run: Run) -> None:
    assert refusal(run, Guest().report(BOOT[:-1])) == "AssertionError: the guest has not booted to its end"


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"digest": "00" * 48}, "an event says something else than what was measured"),
        ({"event_payload": "00" * 20}, "the log is not what happened"),
        ({"event": "app_id"}, "the log is not what happened"),
        ({"version": 2}, "the log is not what happened"),
        ({"version": 2, "preimage": "7b7d"}, "an event has another preimage"),
        ({"event_type": 1}, "there is an event that is not dstack's"),
        ({"imr": 2}, "the log is not what happened"),
    ],
)
def test_tampered_event_is_refused_with_a_reason(run: Run, lie: Event, why: str) -> None:
    report = Guest().report()
    [event] = [each for each in report["event_log"] if each["event"] == "app-id"]
    event.update(lie)
    assert refusal(run, report) == f"AssertionError: {why}"


def test_a_td_that_can_be_debugged_is_refused(run: Run) -> None:
    report = Guest().report()
    measured = bytearray.fromhex(report["intel_quote"])
    for bit in range(8):  # all of them let somebody look in (Intel TDX Module ABI, "ATTRIBUTES")
        debugged = bytearray(measured)
        debugged[168] |= 1 << bit
        assert "can be debugged" in refusal(run, report | {"intel_quote": debugged.hex()})


def test_quote_of_another_version_than_4_is_refused(run: Run) -> None:
    report = Guest().report()
    later = bytearray.fromhex(report["intel_quote"])
    later[0] = 5
    assert "not a version 4 quote" in refusal(run, report | {"intel_quote": later.hex()})
