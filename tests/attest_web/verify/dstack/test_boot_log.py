"""What is read of a guest's boot, and that no other sequence of events is read as one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.dstack.boot_log import MAX_INIT_SCRIPTS, MAX_JSON, MAX_KMS_MEASUREMENTS, BootLog, KeyProviderKind
from attest_web.verify.dstack.event_log import parse_event_log, replay
from attest_web.verify.primitives.checks import FailedError
from tests.attest_web.verify.minting import (
    APP_ID,
    COMPOSE_HASH,
    DSTACK_VECTORS,
    GPU_POLICY_HASH,
    INSTANCE_ID,
    KMS_ID,
    OS_IMAGE_HASH,
    OTHER_KMS_ID,
    boot_log,
    event_log,
    key_provider,
    runtime_log,
)
from tests.attest_web.verify.minting import BootLog as Boot

GPU_ATTESTATION = DSTACK_VECTORS["gpu"]["gpu_attestation_event_payload_utf8"].encode()
FULL: Boot = [
    *boot_log()[:3],
    ("init-script-hash", b"\x31" * 32),
    ("init-script-hash", b"\x32" * 32),
    *boot_log(gpu_attestation=GPU_ATTESTATION)[3:7],
    ("mr-kms", b"\x33" * 32),
    *boot_log()[6:],
]
"""Every event that a boot can have."""

NAMES = [name for name, _ in FULL]
OPTIONAL = {"init-script-hash", "gpu-policy-hash", "gpu-attestation", "mr-kms", "os-image-hash", "storage-fs"}


def parsed(boot: Boot, version: int = 1) -> BootLog:
    return BootLog.parse(parse_event_log(event_log(boot, version)))


@pytest.mark.parametrize("version", [1, 2])
def test_every_event_of_a_boot_is_read(version: int) -> None:
    found = parsed(FULL, version)
    assert found.app_id == APP_ID
    assert found.compose_hash == COMPOSE_HASH
    assert found.init_script_hashes == (b"\x31" * 32, b"\x32" * 32)
    assert found.gpu_policy_hash == GPU_POLICY_HASH
    assert found.gpu_attestation == GPU_ATTESTATION
    assert found.instance_id == INSTANCE_ID
    assert found.os_image_hash == OS_IMAGE_HASH
    assert found.key_provider.kind is KeyProviderKind.KMS
    assert found.key_provider.id == KMS_ID


def real(response: dict[str, Any]) -> BootLog:
    return BootLog.parse(parse_event_log(json.loads(response["event_log"])))


def test_boot_log_of_a_real_0_6_guest_is_read() -> None:
    found = real(DSTACK_VECTORS["real_quotes"]["tdx-lite-getquote.json"]["response"])
    assert found.compose_hash.hex() == DSTACK_VECTORS["mr_config_id"]["real_v1"]["compose_hash"]
    assert found.app_id == found.compose_hash[:20]
    assert found.key_provider.kind is KeyProviderKind.KMS
    assert len(found.key_provider.id) == 91
    assert (found.gpu_policy_hash, found.gpu_attestation) == (None, None)
    assert found.os_image_hash is not None


def test_boot_log_of_a_real_0_5_guest_with_an_app_event_is_read() -> None:
    response = DSTACK_VECTORS["real_quotes"]["quote-report.json"]["response"]
    assert json.loads(response["event_log"])[-1]["event"] == "LIUM_MINER_HOTKEY"
    found = real(response)
    assert found.key_provider.kind is KeyProviderKind.LOCAL_SGX
    assert len(found.key_provider.id) == 32
    assert found.os_image_hash is None


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_boot_log_of_dstacks_own_agent_is_read(version: str) -> None:
    agent = DSTACK_VECTORS["real_agent"]
    found = real(agent[version]["GetQuote"])
    info = agent["v1"]["Info_without_app_cert"]
    assert found.app_id.hex() == info["app_id"]
    assert found.instance_id.hex() == info["instance_id"]
    assert found.key_provider.id.hex() == json.loads(info["key_provider_info"])["id"]
    assert found.gpu_policy_hash == GPU_POLICY_HASH
    assert found.gpu_attestation == (GPU_ATTESTATION if version == "v1" else None)
    if version == "v1":
        assert found.compose_hash.hex() == info["compose_hash"]


@pytest.mark.parametrize("event", FULL, ids=NAMES)
def test_app_event_after_the_boot_changes_nothing(event: tuple[str, bytes]) -> None:
    name, payload = event
    for late in (payload, bytes(len(payload)), b"", b"evil"):
        assert parsed([*FULL, (name, late)]) == parsed(FULL)
    assert parsed([*FULL, *FULL]) == parsed(FULL)


@pytest.mark.parametrize("place", range(len(FULL)), ids=NAMES)
def test_boot_log_without_a_required_event_is_refused(place: int) -> None:
    boot = [*FULL[:place], *FULL[place + 1 :]]
    if NAMES[place] in OPTIONAL:
        assert parsed(boot) != parsed(FULL) or NAMES[place] in ("mr-kms", "storage-fs")
    else:
        with pytest.raises(FailedError, match=NAMES[place]):
            parsed(boot)


@pytest.mark.parametrize("place", range(len(FULL) - 1), ids=NAMES[:-1])
def test_event_repeated_in_the_boot_log_is_refused(place: int) -> None:
    boot = [*FULL[:place], FULL[place], *FULL[place:]]
    if NAMES[place] in ("init-script-hash", "mr-kms"):
        assert parsed(boot).app_id == APP_ID
    else:
        with pytest.raises(FailedError, match=f"has '{NAMES[place]}' where"):
            parsed(boot)


@pytest.mark.parametrize("first", range(len(FULL)))
@pytest.mark.parametrize("second", range(len(FULL)))
def test_events_in_another_order_are_refused(first: int, second: int) -> None:
    if NAMES[first] == NAMES[second]:
        return
    boot = list(FULL)
    boot[first], boot[second] = boot[second], boot[first]
    if {NAMES[first], NAMES[second]} == {"storage-fs", "system-ready"}:  # a boot that ends before it
        assert parsed(boot) == parsed(FULL)
        return
    with pytest.raises(FailedError):
        parsed(boot)


@pytest.mark.parametrize("place", range(len(FULL)), ids=NAMES)
@pytest.mark.parametrize(
    "rename",
    [lambda name: name + ":", lambda name: name.upper(), lambda name: name + "\0", lambda name: "", lambda name: "x"],
    ids=["colon", "upper case", "zero", "none", "unknown"],
)
def test_an_event_of_another_name_is_refused(place: int, rename: Callable[[str], str]) -> None:
    boot = list(FULL)
    boot[place] = (rename(NAMES[place]), FULL[place][1])
    with pytest.raises(FailedError, match="boot log"):
        parsed(boot)


@pytest.mark.parametrize("place", range(len(FULL)), ids=NAMES)
@pytest.mark.parametrize("bend", [lambda payload: payload + b"\0", lambda payload: payload[:-1]], ids=["more", "less"])
def test_a_payload_of_another_length_is_refused(place: int, bend: Callable[[bytes], bytes]) -> None:
    name, payload = FULL[place]
    if bend(payload) == payload:
        return  # an empty one cannot be shorter
    boot = list(FULL)
    boot[place] = (name, bend(payload))
    if name == "gpu-attestation":  # JSON of any length, read elsewhere
        assert parsed(boot).gpu_attestation == bend(payload)
    else:
        with pytest.raises(FailedError):
            parsed(boot)


@pytest.mark.parametrize("place", range(len(FULL)))
def test_an_unknown_event_is_refused_wherever_it_stands(place: int) -> None:
    with pytest.raises(FailedError, match="boot log has 'unknown' where"):
        parsed([*FULL[:place], ("unknown", b""), *FULL[place:]])


@pytest.mark.parametrize("count", range(len(FULL)))
def test_a_log_that_ends_before_the_start_is_refused(count: int) -> None:
    with pytest.raises(FailedError, match="it goes up to 'system-ready'"):
        parsed(FULL[:count])


def test_empty_instance_id_is_accepted() -> None:
    assert parsed(boot_log(instance_id=b"")).instance_id == b""


@pytest.mark.parametrize("file_system", [b"xfs", b"ext2", b"ZFS", b"\0\0\0"])
def test_an_unknown_file_system_is_refused(file_system: bytes) -> None:
    for known in (b"zfs", b"ext4"):
        parsed(boot_log(storage_fs=known))
    with pytest.raises(FailedError, match="file system"):
        parsed(boot_log(storage_fs=file_system))


@pytest.mark.parametrize(
    ("name", "place", "most"), [("init-script-hash", 3, MAX_INIT_SCRIPTS), ("mr-kms", 6, MAX_KMS_MEASUREMENTS)]
)
def test_repeatable_boot_events_are_limited_in_number(name: str, place: int, most: int) -> None:
    boot = boot_log()
    for count in range(most + 2):
        several = [*boot[:place], *[(name, bytes([n]) * 32) for n in range(count)], *boot[place:]]
        if count <= most:
            assert len(parsed(several).init_script_hashes) == (count if name == "init-script-hash" else 0)
        else:
            with pytest.raises(FailedError, match=f"has '{name}' where"):
                parsed(several)


def test_a_long_gpu_attestation_is_refused() -> None:
    parsed(boot_log(gpu_attestation=b"{" * MAX_JSON))
    for payload in (b"{" * (MAX_JSON + 1), b""):
        with pytest.raises(FailedError, match="'gpu-attestation' in the boot log has a payload of"):
            parsed(boot_log(gpu_attestation=payload))


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("kms", KMS_ID), ("kms", OTHER_KMS_ID), ("local-sgx", b"\6" * 32), ("tpm", b""), ("none", b"")],
)
def test_every_kind_of_key_provider_is_read(kind: str, provider: bytes) -> None:
    found = parsed(boot_log(key_provider=key_provider(kind, provider))).key_provider
    assert (found.kind, found.id) == (kind, provider)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        key_provider("kms"),
        key_provider("local-sgx"),
        key_provider("none", KMS_ID),
        key_provider("tpm", KMS_ID),
        key_provider("KMS", KMS_ID),
        key_provider("other", KMS_ID),
        key_provider("kms", b"\1" * 1025),
        key_provider("kms", b"\1" * MAX_JSON),
        key_provider("kms", KMS_ID) + b"\n",
        b" " + key_provider("kms", KMS_ID),
        key_provider("kms", KMS_ID).upper(),
        b'{"name":"kms", "id":"07"}',
        b'{"id":"07","name":"kms"}',
        b'{"name":"kms","id":"7"}',
        b'{"name":"kms","id":"AA"}',
        b'{"name":"kms","id":"07","more":1}',
        b'{"name":"none","id":"","name":"kms"}',
        b'{"name":"none","id":null}',
        b'{"name":"kms","id":"0\\u0037"}',
        b"\xff",
    ],
)
def test_a_key_provider_that_is_not_of_dstacks_form_is_refused(payload: bytes) -> None:
    with pytest.raises(FailedError, match="key provider|key-provider|payload"):  # noqa: RUF043
        parsed(boot_log(key_provider=payload))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_as_a_key_provider_are_refused(payload: bytes) -> None:
    with pytest.raises(FailedError):
        parsed(boot_log(key_provider=payload))


def test_a_compose_hash_cannot_be_hidden_behind_a_colon(dstack_vectors: dict[str, Any]) -> None:
    attack = dstack_vectors["colon_relabel_attack"]
    shown, true = (parse_event_log(attack[name]) for name in ("shown_log", "true_events"))
    assert replay(shown, 3) == replay(true, 3) == bytes.fromhex(attack["rtmr3"])
    with pytest.raises(FailedError, match="has 'compose-hash:' where 'compose-hash' should be"):
        BootLog.parse(shown)


def test_compose_hash_hidden_behind_a_colon_in_a_complete_log_is_refused(dstack_vectors: dict[str, Any]) -> None:
    evil = bytes.fromhex(dstack_vectors["colon_relabel_attack"]["evil_compose_hash"])
    true = [*boot_log(compose_hash=evil), ("compose-hash", COMPOSE_HASH)]
    assert parsed(true).compose_hash == evil
    for place in (2, 10):  # where it was, or behind the event that an attacker has added
        shown = list(true)
        shown[2] = ("compose-hash:", evil[1:])
        shown.insert(place, ("compose-hash", COMPOSE_HASH))
        with pytest.raises(FailedError, match="has 'compose-hash"):
            parsed(shown)


def test_a_key_provider_cannot_be_hidden_behind_a_colon(dstack_vectors: dict[str, Any]) -> None:
    relabel = dstack_vectors["key_provider_relabel"]
    (name, payload), (renamed, rest) = relabel["true"], relabel["same_digest_as"]
    true, shown = (runtime_log([(n, bytes.fromhex(p))]) for n, p in ((name, payload), (renamed, rest)))
    assert parse_event_log(true)[0].digest == parse_event_log(shown)[0].digest == bytes.fromhex(relabel["digest"])
    boot = boot_log(key_provider=bytes.fromhex(payload))
    assert parsed(boot).key_provider.kind is KeyProviderKind.KMS
    place = [each for each, _ in boot].index("key-provider")
    hidden: Boot = [*boot[:place], (renamed, bytes.fromhex(rest)), *boot[place + 1 :]]
    none = ("key-provider", key_provider("none"))
    for shown_boot in (hidden, [*hidden, none], [*hidden[:-1], none, hidden[-1]]):
        with pytest.raises(FailedError, match="where 'key-provider' should be"):
            parsed(shown_boot)


def test_events_of_other_registers_do_not_affect_the_boot_log() -> None:
    boot = {"imr": 2, "event_type": 6, "digest": "00" * 48, "event": "compose-hash", "event_payload": "00" * 32}
    log = event_log()
    for place in range(len(log) + 1):
        assert BootLog.parse(parse_event_log([*log[:place], boot, *log[place:]])) == parsed(boot_log())
