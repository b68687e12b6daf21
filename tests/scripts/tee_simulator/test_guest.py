"""A guest as it boots: the order of its events, what it attests, and what its options change."""

import hashlib
import json
from typing import Any

import msgpack
import pytest

from attest_web.verify.dstack.boot_log import BootLog
from attest_web.verify.dstack.event_log import parse_event_log
from scripts.tee_simulator.app import MrConfigVersion
from scripts.tee_simulator.event_log import Log, replay
from scripts.tee_simulator.guest import GuestOptions, SimulatedGuest
from scripts.tee_simulator.image import MRTD, OS_IMAGE_HASH
from scripts.tee_simulator.kms import KeyProviderKind
from scripts.tee_simulator.tdx import SimulatedPlatform

SEED = bytes(range(32))
REPORT_DATA = bytes(range(64))
RTMR3_AT = 48 + 472
MR_CONFIG_ID_AT = 48 + 184


def boot(platform: SimulatedPlatform, **options: Any) -> SimulatedGuest:
    return SimulatedGuest(platform, GuestOptions(SEED, **options))


def named(log: Log) -> dict[str, bytes]:
    return {event.event: event.event_payload for event in log if event.is_runtime}


def test_guest_0_6_boot_events_are_in_dstacks_order(platform: SimulatedPlatform) -> None:
    guest = boot(platform, gpus=2)
    events = named(guest.log)
    assert list(events) == [
        "system-preparing",
        "app-id",
        "compose-hash",
        "gpu-policy-hash",
        "gpu-attestation",
        "instance-id",
        "boot-mr-done",
        "os-image-hash",
        "key-provider",
        "storage-fs",
        "system-ready",
    ]
    fixed = {"app-id": 20, "compose-hash": 32, "gpu-policy-hash": 32, "instance-id": 20, "os-image-hash": 32}
    assert {name: len(events[name]) for name in fixed} == fixed
    assert {events[name] for name in ("system-preparing", "boot-mr-done", "system-ready")} == {b""}
    said = json.loads(events["gpu-attestation"])
    assert said["devices"] == 2
    assert said["evidence_sha256"] == hashlib.sha256(guest.gpu_info.encode()).hexdigest()


def test_guest_0_5_boot_events_are_in_dstacks_order(platform: SimulatedPlatform) -> None:
    events = named(boot(platform, os_version="0.5").log)
    assert list(events) == [
        "system-preparing",
        "app-id",
        "compose-hash",
        "instance-id",
        "boot-mr-done",
        "mr-kms",
        "os-image-hash",
        "key-provider",
        "storage-fs",
        "system-ready",
    ]


@pytest.mark.parametrize("kind", [kind for kind in KeyProviderKind if kind is not KeyProviderKind.KMS])
def test_guest_without_a_kms_has_no_os_image_hash_event(platform: SimulatedPlatform, kind: KeyProviderKind) -> None:
    guest = boot(platform, key_provider=kind)
    events = named(guest.log)
    assert "os-image-hash" not in events
    assert json.loads(events["key-provider"]) == {"name": kind.value, "id": guest.provider.id.hex()}


@pytest.mark.parametrize("options", [{}, {"gpus": 1}, {"os_version": "0.5"}, {"event_log_version": 2}])
def test_guest_boot_log_is_parsed_by_the_verifier(platform: SimulatedPlatform, options: dict[str, Any]) -> None:
    guest = boot(platform, **options)
    _, shown = guest.quote(REPORT_DATA)
    read = BootLog.parse(parse_event_log([event.as_json() for event in shown]))
    assert (read.app_id, read.compose_hash) == (guest.app.app_id, guest.app.compose_hash)
    assert read.key_provider.id == guest.provider.id


@pytest.mark.parametrize("version", [1, 2])
def test_guest_rtmr3_is_the_replay_of_its_log(platform: SimulatedPlatform, version: int) -> None:
    guest = boot(platform, event_log_version=version)
    quote, shown = guest.quote(REPORT_DATA)
    assert quote[RTMR3_AT : RTMR3_AT + 48] == replay(guest.log)[3] == guest.measured.rtmrs[3]
    runtime = [event for event in shown if event.is_runtime]
    assert {(event.digest, event.version) for event in runtime} == {(b"", version)}
    assert {event.preimage is None for event in runtime} == {version == 1}


def test_guest_0_5_log_is_not_stripped(platform: SimulatedPlatform) -> None:
    guest = boot(platform, os_version="0.5")
    _, shown = guest.quote(REPORT_DATA)
    assert shown == guest.log
    assert all(len(event.digest) == 48 for event in shown)


def test_emitted_event_extends_rtmr3(platform: SimulatedPlatform) -> None:
    guest = boot(platform, os_version="0.5")
    before = guest.measured.rtmrs[3]
    guest.emit("mine", b"payload")
    quote, shown = guest.quote(REPORT_DATA)
    assert (shown[-1].event, shown[-1].event_payload) == ("mine", b"payload")
    assert before != quote[RTMR3_AT : RTMR3_AT + 48] == guest.measured.rtmrs[3]


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, 3),
        ({"os_version": "0.5"}, 2),
        ({"compose": "{}"}, 1),
        ({"key_provider": KeyProviderKind.NONE}, 1),
        ({"mr_config": MrConfigVersion.V1}, 1),
        ({"mr_config": MrConfigVersion.V2}, 2),
        ({"mr_config": MrConfigVersion.V3, "compose": "{}"}, 3),
        ({"mr_config": MrConfigVersion.UNSET}, 0),
    ],
)
def test_guest_mr_config_id_has_the_chosen_or_default_version(
    platform: SimulatedPlatform, options: dict[str, Any], first: int
) -> None:
    guest = boot(platform, **options)
    quote, _ = guest.quote(REPORT_DATA)
    bound = quote[MR_CONFIG_ID_AT : MR_CONFIG_ID_AT + 48]
    assert (bound[0], bound[33:]) == (first, bytes(15))
    document = json.loads(guest.vm_config).get("mr_config")
    assert (document is not None) == (first == 3)
    if document is not None:
        assert bound[1:33] == hashlib.sha256(b"dstack-mr-config-v3:\0" + document.encode()).digest()


@pytest.mark.parametrize(("options", "version"), [({}, 1), ({"event_log_version": 2}, 2)])
def test_guest_attestation_encoding_follows_the_event_log_version(
    platform: SimulatedPlatform, options: dict[str, Any], version: int
) -> None:
    guest = boot(platform, **options)
    encoded = guest.attestation(REPORT_DATA)
    assert encoded[0] == (0 if version == 1 else 0x83)
    if version == 2:
        stack = msgpack.unpackb(encoded)["stack"]["data"]
        assert (bytes(stack["report_data"]), stack["config"]) == (REPORT_DATA, guest.vm_config)
        assert {event["version"] for event in stack["runtime_events"]} == {2}


def test_compose_document_sets_the_event_version_and_instance_id(platform: SimulatedPlatform) -> None:
    guest = boot(platform, compose='{"event_log_version":2,"no_instance_id":true}')
    runtime = [event for event in guest.log if event.is_runtime]
    assert {event.version for event in runtime} == {2}
    assert named(guest.log)["instance-id"] == guest.instance_id == b""


def test_guest_0_5_ignores_the_event_log_version(platform: SimulatedPlatform) -> None:
    guest = boot(platform, os_version="0.5", compose='{"event_log_version":2}')
    assert {event.version for event in guest.log} == {1}


def test_guest_identity_matches_its_quote_and_is_derived_from_the_seed(platform: SimulatedPlatform) -> None:
    guest = boot(platform)
    identity = guest.identity()
    assert identity["os_image_hash"] == OS_IMAGE_HASH.hex()
    assert (identity["compose_hash"], identity["mrtd"]) == (guest.app.compose_hash.hex(), MRTD.hex())
    registers = [identity[f"rtmr{number}"] for number in range(4)]
    assert registers == [register.hex() for register in replay(guest.log)]
    assert (len(identity["kms_root"]), len(identity["key_provider_id"])) == (66, 182)
    again = boot(SimulatedPlatform())
    assert again.identity() == identity, "a seed gives the same guest on any platform"


def test_mr_aggregated_matches_the_real_agents_formula(
    dstack_vectors: dict[str, Any], platform: SimulatedPlatform
) -> None:
    """Of an agent whose MRCONFIGID is unset; ours has the same formula over registers of its own."""
    real = dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]
    said = json.loads(real["tcb_info"])
    registers = b"".join(bytes.fromhex(said[name]) for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"))
    assert hashlib.sha256(registers).hexdigest() == real["mr_aggregated"]
    guest = boot(platform, mr_config=MrConfigVersion.UNSET)
    measured = guest.measured
    assert guest.mr_aggregated == hashlib.sha256(measured.mrtd + b"".join(measured.rtmrs)).digest()
    assert boot(platform).mr_aggregated != guest.mr_aggregated
