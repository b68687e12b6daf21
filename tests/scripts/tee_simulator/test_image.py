"""The image that a guest claims, against the guest on real hardware that has reported it."""

import hashlib
import json
from typing import Any

import pytest

from attest_web.verify.dstack.event_log import parse_event_log
from attest_web.verify.dstack.os_image import expected_registers
from scripts.tee_simulator.event_log import replay, stripped
from scripts.tee_simulator.image import MRTD, OS_IMAGE_HASH, VirtualMachine, boot_events


@pytest.fixture
def real(dstack_vectors: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = dstack_vectors["real_quotes"]["tdx-lite-getquote.json"]
    return known


def test_boot_events_match_the_real_hardwares_registers_and_log(real: dict[str, Any]) -> None:
    assert MRTD.hex() == real["mrtd"]
    assert [register.hex() for register in replay(boot_events())[:3]] == real["rtmrs"][:3]
    boot = [event for event in json.loads(real["response"]["event_log"]) if event["imr"] != 3]
    assert [event.as_json() for event in stripped(boot_events())] == boot


def test_vm_config_matches_the_real_hardwares(real: dict[str, Any]) -> None:
    assert VirtualMachine().config() == real["response"]["vm_config"]


def test_registers_are_recomputed_from_the_os_image_hash() -> None:
    events = parse_event_log([event.as_json() for event in stripped(boot_events())])
    expected = expected_registers(OS_IMAGE_HASH, events, json.loads(VirtualMachine().config()))
    assert (expected.mrtd, *expected.rtmrs) == (MRTD, *replay(boot_events())[:3])


def test_measured_payloads_are_complete_and_hash_to_their_digests(dstack_vectors: dict[str, Any]) -> None:
    tcb_info = json.loads(dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]["tcb_info"])
    real = [event for event in tcb_info["event_log"] if event["event_type"] in (0x80000001, 4, 0x80000007, 10)]
    ours = [event for event in boot_events() if event.event_type in (0x80000001, 4, 0x80000007, 10)]
    assert [(event["imr"], event["event_payload"]) for event in real] == [
        (event.imr, event.event_payload.hex()) for event in ours
    ]
    hashed = [event for event in ours if event.event_type != 10]
    assert [event.digest for event in hashed] == [hashlib.sha384(event.event_payload).digest() for event in hashed]


def test_legacy_vm_config_has_no_measurement_material() -> None:
    config = json.loads(VirtualMachine(gpus=3, lite=False).config())
    assert not {"tdx_attestation_variant", "tdx_measurement"} & set(config)
    assert (config["num_gpus"], config["os_image_hash"]) == (3, OS_IMAGE_HASH.hex())


def test_boot_events_before_0_6_have_no_table_names() -> None:
    assert {event.event for event in boot_events(named_tables=False)} == {""}
    assert replay(boot_events(named_tables=False)) == replay(boot_events())
    assert "ovmf_variant" not in json.loads(VirtualMachine(os_version="0.5").config())
