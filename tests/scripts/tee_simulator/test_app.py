"""What the host binds of an app, against dstack's own documents."""

import json
from typing import Any

import pytest

from scripts.tee_simulator.app import App, MrConfigVersion, default_compose, mr_config_document, mr_config_id
from scripts.tee_simulator.kms import KeyProvider, KeyProviderKind

SEED = bytes(32)
KMS = KeyProvider.from_seed(KeyProviderKind.KMS, SEED)


class KnownApp(App):
    """An app whose hash is said, in place of a document that has it."""

    compose_hash = bytes.fromhex("22" * 32)
    app_id = bytes.fromhex("11" * 20)
    gpu_policy_hash = bytes.fromhex("55" * 32)


class KnownProvider(KeyProvider):
    id = bytes.fromhex("33" * 32)


@pytest.fixture
def app() -> App:
    return KnownApp(json.dumps({"key_provider_id": "33" * 32}))


@pytest.fixture
def provider() -> KeyProvider:
    return KnownProvider(KeyProviderKind.KMS, SEED, KMS.ca_key)


def test_mr_config_ids_match_the_vectors(dstack_vectors: dict[str, Any], app: App, provider: KeyProvider) -> None:
    known = dstack_vectors["mr_config_id"]
    document = mr_config_document(app, provider, bytes.fromhex("44" * 20), gpus=1)
    assert document == known["v3_document"]
    for version in MrConfigVersion:
        assert mr_config_id(version, app, provider, document).hex() == known[version.value]


def test_mr_config_document_of_a_real_host_hashes_to_its_host_data(dstack_vectors: dict[str, Any], app: App) -> None:
    known = dstack_vectors["mr_config_id"]["real_v3_snp"]
    assert mr_config_id(MrConfigVersion.V3, app, KMS, known["document"]).hex()[2:66] == known["host_data"]


def test_mr_config_document_of_a_bare_app_has_only_the_required_members() -> None:
    none = KeyProvider.from_seed(KeyProviderKind.NONE, SEED)
    bare = json.loads(mr_config_document(App("{}"), none, b"", gpus=0))
    assert set(bare) == {"version", "app_id", "compose_hash", "key_provider"}
    asking = json.loads(mr_config_document(App('{"manifest_version":"3"}'), none, b"", gpus=0))
    assert asking["init_script_hashes"] == []


def test_mr_config_document_names_the_local_key_provider_local() -> None:
    local = KeyProvider.from_seed(KeyProviderKind.LOCAL_SGX, SEED)
    assert json.loads(mr_config_document(App("{}"), local, b"", gpus=0))["key_provider"] == "local"
    assert json.loads(local.info)["name"] == "local-sgx"


@pytest.mark.parametrize(
    ("document", "known"),
    [
        ({}, "absent or {}"),
        ({"requirements": {}}, "absent or {}"),
        ({"requirements": {"gpu_policy": {"attest_gpu": True}}}, '{"attest_gpu":true}'),
        (
            {"requirements": {"gpu_policy": {"rego": "package policy", "allow_debug": False}}},
            '{"allow_debug":false,"rego":"package policy"}',
        ),
    ],
)
def test_gpu_policy_hashes_match_the_vectors(
    dstack_vectors: dict[str, Any], document: dict[str, Any], known: str
) -> None:
    expected = dstack_vectors["gpu"]["policy_hash"][known]
    assert App(json.dumps(document)).gpu_policy_hash.hex() == expected


def test_default_app_of_0_6_pins_its_key_provider_and_requires_gpu_attestation() -> None:
    document = json.loads(default_compose(KMS, os_version="0.6", event_log_version=1, gpus=2))
    assert (document["manifest_version"], document["key_provider_id"]) == ("3", KMS.id.hex())
    assert document["requirements"]["gpu_policy"] == {"attest_gpu": True}
    assert "event_log_version" not in document


def test_default_app_of_0_5_has_no_requirements() -> None:
    document = json.loads(default_compose(KMS, os_version="0.5", event_log_version=1, gpus=0))
    assert document["manifest_version"] == 2
    assert "requirements" not in document


@pytest.mark.parametrize(("said", "version"), [({}, 1), ({"event_log_version": 2}, 2), ({"event_log_version": 1}, 1)])
def test_app_event_log_version_is_read_from_the_compose_document(said: dict[str, Any], version: int) -> None:
    assert App(json.dumps(said)).event_log_version == version
