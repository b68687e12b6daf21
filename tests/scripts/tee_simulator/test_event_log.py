"""Digests and forms of the event log, against those of dstack's own programs."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scripts.tee_simulator.event_log import (
    Log,
    of_certificate,
    replay,
    runtime_event,
    runtime_preimage,
    stripped,
    with_preimages,
)

NAMES = st.text(st.characters(codec="utf-8"))


def as_json(log: Log) -> list[dict[str, Any]]:
    return [event.as_json() for event in log]


def version_2(log: Log) -> Log:
    return tuple(runtime_event(event.event, event.event_payload, 2) if event.is_runtime else event for event in log)


def test_runtime_event_digests_match_the_vectors(dstack_vectors: dict[str, Any]) -> None:
    for known in dstack_vectors["runtime_event_digests"]["events"]:
        name, payload = known["event"], bytes.fromhex(known["event_payload"])
        assert runtime_event(name, payload).digest.hex() == known["v1_digest"]
        assert runtime_event(name, payload, 2).digest.hex() == known["v2_digest"]
        assert runtime_preimage(name, payload, 2).decode() == known["v2_preimage_utf8"]


def test_event_log_of_mixed_versions_replays_to_the_vectors_rtmr3(dstack_vectors: dict[str, Any]) -> None:
    known = dstack_vectors["mixed_replay"]
    log = tuple(runtime_event(name, bytes.fromhex(payload), version) for name, payload, version in known["events"])
    assert replay(log)[3].hex() == known["rtmr3"]


def test_stripped_version_1_log_matches_the_real_agents_get_quote(
    dstack_vectors: dict[str, Any], real_log: Log
) -> None:
    shown = json.loads(dstack_vectors["real_agent"]["v1"]["GetQuote"]["event_log"])
    assert as_json(stripped(real_log)) == shown


def test_stripped_version_2_log_matches_the_real_agents_get_quote(
    dstack_vectors: dict[str, Any], real_log: Log
) -> None:
    shown = json.loads(dstack_vectors["real_agent"]["v2"]["GetQuote"]["event_log"])
    boot = tuple(event for event in real_log if not event.is_runtime)
    said = [(event["event"], bytes.fromhex(event["event_payload"])) for event in shown if event["imr"] == 3]
    log = boot + tuple(runtime_event(name, payload, 2) for name, payload in said)
    assert as_json(stripped(log)) == shown


def test_version_2_event_forms_match_the_real_agents(dstack_vectors: dict[str, Any]) -> None:
    forms = {name.split(" ")[0]: event for name, event in dstack_vectors["v2_event_json"].items()}
    log = (runtime_event("app-id", bytes.fromhex(forms["Info"]["event_payload"]), 2),)
    assert as_json(log) == [forms["Info"]]
    assert as_json(with_preimages(log)) == [forms["Attest"]]
    assert as_json(stripped(log)) == [forms["GetQuote"]]
    assert as_json(of_certificate(log)) == [forms["RA-TLS"]]


def test_log_with_preimages_keeps_every_event(real_log: Log) -> None:
    assert with_preimages(real_log) == real_log
    log = version_2(real_log)
    assert [event.digest for event in with_preimages(log)] == [event.digest for event in log]


def test_certificate_log_has_only_acpi_and_runtime_events(real_log: Log) -> None:
    shown = of_certificate(real_log)
    assert [event.event for event in shown[:3]] == ["acpi-loader", "acpi-rsdp", "acpi-tables"]
    assert shown[3:] == tuple(event for event in stripped(real_log) if event.imr == 3)


@given(name=NAMES, payload=st.binary())
def test_version_2_preimage_is_sorted_json_of_the_event(name: str, payload: bytes) -> None:
    said = json.loads(runtime_preimage(name, payload, 2))
    assert said == {"name": name, "payload": payload.hex(), "type": 0x08000001}
    assert list(said) == sorted(said)
