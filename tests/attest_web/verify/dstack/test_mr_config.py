"""What the host has said in MRCONFIGID, true and false in each part."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from eth_utils.crypto import keccak

from attest_web.verify.dstack.boot_log import BootLog, KeyProvider, KeyProviderKind
from attest_web.verify.dstack.mr_config import check_mr_config_id, is_unset, mr_config_id_v3
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.minting import DSTACK_VECTORS, quote

VECTORS = DSTACK_VECTORS["mr_config_id"]
BOOT = BootLog(
    app_id=b"\x11" * 20,
    compose_hash=b"\x22" * 32,
    init_script_hashes=(),
    gpu_policy_hash=b"\x55" * 32,
    gpu_attestation=None,
    instance_id=b"\x44" * 20,
    os_image_hash=None,
    key_provider=KeyProvider(KeyProviderKind.KMS, b"\x33" * 32),
)
"""The boot that the vectors are about."""

SCRIPTED = dataclasses.replace(BOOT, init_script_hashes=(b"\x66" * 32, b"\x77" * 32))
DOCUMENT: dict[str, Any] = json.loads(VECTORS["v3_document"])
OTHERS: dict[str, dict[str, Any]] = {
    "compose hash": {"compose_hash": b"\x23" * 32},
    "app id": {"app_id": b"\x12" * 20},
    "kind": {"key_provider": KeyProvider(KeyProviderKind.LOCAL_SGX, b"\x33" * 32)},
    "provider": {"key_provider": KeyProvider(KeyProviderKind.KMS, b"\x34" * 32)},
}


def check(value: bytes, boot: BootLog = BOOT, document: str | None = None) -> str:
    return check_mr_config_id(TdxQuote.parse(quote(b"R" * 64, [bytes(48)] * 4, mr_config_id=value)), boot, document)


def v2(boot: BootLog) -> bytes:
    kind = {"none": 0, "local-sgx": 1, "kms": 2, "tpm": 3}[boot.key_provider.kind]
    return b"\2" + keccak(boot.compose_hash + boot.app_id + bytes([kind]) + boot.key_provider.id) + bytes(15)


def v3(**bent: Any) -> tuple[bytes, str]:
    """MRCONFIGID and its document: the vectors', with other members, and without those that are `...`."""
    document = json.dumps({name: value for name, value in (DOCUMENT | bent).items() if value is not ...})
    digest = hashlib.sha256(b"dstack-mr-config-v3:\0" + document.encode()).digest()
    return b"\3" + digest + bytes(15), document


def test_mr_config_id_vectors_of_each_version_are_valid() -> None:
    assert "version 1" in check(bytes.fromhex(VECTORS["v1"]))
    assert "version 2" in check(bytes.fromhex(VECTORS["v2"]))
    found = check(bytes.fromhex(VECTORS["v3"]), document=VECTORS["v3_document"])
    assert all(name in found for name in DOCUMENT)
    assert mr_config_id_v3(VECTORS["v3_document"]).hex() == VECTORS["v3"]
    assert v3()[0] == mr_config_id_v3(v3()[1])
    assert v2(BOOT).hex() == VECTORS["v2"]


def test_mr_config_id_of_real_guests_is_valid() -> None:
    real = VECTORS["real_v1"]
    boot = dataclasses.replace(BOOT, compose_hash=bytes.fromhex(real["compose_hash"]))
    check(bytes.fromhex(real["mr_config_id"]), boot)
    snp = VECTORS["real_v3_snp"]
    assert mr_config_id_v3(snp["document"])[1:33].hex() == snp["host_data"]


@pytest.mark.parametrize("kind", KeyProviderKind)
def test_mr_config_id_version_2_binds_the_kind_of_key_provider(kind: KeyProviderKind) -> None:
    boot = dataclasses.replace(BOOT, key_provider=KeyProvider(kind, b"\x33" * 32))
    check(v2(boot), boot)
    for other in KeyProviderKind:
        if other is not kind:
            with pytest.raises(FailedError, match="not made of"):
                check(v2(boot), dataclasses.replace(BOOT, key_provider=KeyProvider(other, b"\x33" * 32)))


@pytest.mark.parametrize("part", OTHERS)
def test_a_difference_to_the_measured_guest_is_found_in_each_part(part: str) -> None:
    measured = dataclasses.replace(BOOT, **OTHERS[part])
    with pytest.raises(FailedError, match="not made of"):
        check(v2(BOOT), measured)
    value, document = v3()
    with pytest.raises(FailedError, match="is not what was measured"):
        check(value, measured, document)
    if part == "compose hash":
        with pytest.raises(FailedError, match="it names the compose file 2222"):
            check(bytes.fromhex(VECTORS["v1"]), measured)
    else:  # version 1 says no more
        check(bytes.fromhex(VECTORS["v1"]), measured)


def test_mr_config_id_is_unset_only_if_all_bytes_are_zero() -> None:
    assert is_unset(TdxQuote.parse(quote(b"R" * 64, [bytes(48)] * 4)))
    with pytest.raises(FailedError, match="it is unset"):
        check(bytes.fromhex(VECTORS["unset"]))
    for place in range(48):
        value = bytearray(48)
        value[place] = 1
        assert not is_unset(TdxQuote.parse(quote(b"R" * 64, [bytes(48)] * 4, mr_config_id=bytes(value))))
        with pytest.raises(FailedError):
            check(bytes(value))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("place", range(48))
def test_mr_config_id_with_a_changed_byte_is_refused(version: str, place: int) -> None:
    value = bytearray.fromhex(VECTORS[version])
    value[place] ^= 1
    with pytest.raises(FailedError):
        check(bytes(value), document=VECTORS["v3_document"])


@pytest.mark.parametrize("version", [0, 4, 5, 255])
def test_mr_config_id_of_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(FailedError, match="1 to 3 are known"):
        check(bytes([version]) + bytes.fromhex(VECTORS["v1"])[1:])


def test_mr_config_id_version_3_needs_the_exact_document() -> None:
    value, document = v3()
    check(value, document=document)
    with pytest.raises(FailedError, match="vm_config has none"):
        check(value)
    for other in (document + " ", document.replace(": ", ":"), v3(app_id=...)[1]):
        with pytest.raises(FailedError, match="not the hash of the document"):
            check(value, document=other)


@pytest.mark.parametrize(
    "bent",
    [
        {"version": 2},
        {"version": "3"},
        {"version": 3.0},
        {"version": True},
        {"app_id": "12" * 20},
        {"app_id": ""},
        {"app_id": None},
        {"compose_hash": "23" * 32},
        {"compose_hash": "22" * 31},
        {"compose_hash": 22},
        {"key_provider": "none"},
        {"key_provider": "KMS"},
        {"key_provider": None},
        {"key_provider": ["kms"]},
        {"key_provider_id": "34" * 32},
        {"key_provider_id": ""},
        {"instance_id": "45" * 20},
        {"gpu_policy_hash": "56" * 32},
        {"gpu_policy_hash": None},
        {"init_script_hashes": ["66" * 32]},
        {"init_script_hashes": "66" * 32},
        {"init_script_hashes": [5]},
        {"init_script_hashes": None},
        {"compose_hash": ...},
        {"key_provider": ...},
        {"more": 1},
        {"\x1b[2J": 1},
    ],
    ids=str,
)
def test_a_document_with_another_value_is_refused(bent: dict[str, Any]) -> None:
    value, document = v3(**bent)
    with pytest.raises(FailedError):
        check(value, document=document)


@pytest.mark.parametrize("document", ["", "null", "[]", "{", '{"compose_hash":"22","compose_hash":"22"}'])
def test_malformed_mr_config_id_document_is_refused(document: str) -> None:
    with pytest.raises(FailedError):
        check(mr_config_id_v3(document), document=document)


@pytest.mark.parametrize("name", ["app_id", "key_provider_id", "instance_id", "gpu_policy_hash"])
def test_members_that_a_document_lacks_are_not_checked(name: str) -> None:
    value, document = v3(**{name: ...})
    others: dict[str, dict[str, Any]] = {
        "app_id": {"app_id": b"\x12" * 20},
        "key_provider_id": {"key_provider": KeyProvider(KeyProviderKind.KMS, b"\x34" * 32)},
        "instance_id": {"instance_id": b"\x45" * 20},
        "gpu_policy_hash": {"gpu_policy_hash": None},
    }
    measured = dataclasses.replace(BOOT, **others[name])
    check(value, measured, document)
    with pytest.raises(FailedError, match=f"'{name}' in the document of MRCONFIGID"):
        check(v3()[0], measured, v3()[1])


def test_mr_config_id_document_init_scripts_are_compared_in_order() -> None:
    scripts = ["66" * 32, "77" * 32]
    value, document = v3(init_script_hashes=scripts)
    check(value, SCRIPTED, document)
    for other in (scripts[:1], scripts[::-1], [*scripts, scripts[0]], []):
        value, document = v3(init_script_hashes=other)
        with pytest.raises(FailedError, match="'init_script_hashes' in the document of MRCONFIGID is not what"):
            check(value, SCRIPTED, document)


def test_mr_config_id_document_with_an_unmeasured_gpu_policy_is_refused() -> None:
    value, document = v3()
    with pytest.raises(FailedError, match="'gpu_policy_hash'"):
        check(value, dataclasses.replace(BOOT, gpu_policy_hash=None), document)


def test_mr_config_id_document_names_the_local_key_provider_local_and_not_local_sgx() -> None:
    local = dataclasses.replace(BOOT, key_provider=KeyProvider(KeyProviderKind.LOCAL_SGX, b"\x33" * 32))
    value, document = v3(key_provider="local")
    assert "key_provider" in check(value, local, document)
    value, document = v3(key_provider="local-sgx")
    with pytest.raises(FailedError, match="'key_provider'"):
        check(value, local, document)
