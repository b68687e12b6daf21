import hashlib
import json

import pytest

from attest_web.verify.dstack.boot_log import KeyProvider, KeyProviderKind
from attest_web.verify.dstack.key_provider import check_key_provider, pinned_by_compose
from attest_web.verify.primitives.checks import FailedError, NotAskedError, NotMadeError
from tests.attest_web.verify.minting import APP_COMPOSE, KMS_ID, OTHER_KMS_ID

ENCLAVE = b"\6" * 32
KMS = KeyProvider(KeyProviderKind.KMS, KMS_ID)
SGX = KeyProvider(KeyProviderKind.LOCAL_SGX, ENCLAVE)
TPM = KeyProvider(KeyProviderKind.TPM, b"")
NONE = KeyProvider(KeyProviderKind.NONE, b"")
SHA256 = hashlib.sha256(KMS_ID).digest()


@pytest.mark.parametrize("provider", [KMS, SGX], ids=lambda provider: provider.kind)
def test_key_provider_expected_by_its_id_or_its_sha256_is_accepted(provider: KeyProvider) -> None:
    digest = hashlib.sha256(provider.id).digest()
    for expected in (provider.id, digest):
        for pinned in (None, provider.id, OTHER_KMS_ID):  # the verifier's word comes first
            found = check_key_provider(provider, {OTHER_KMS_ID, expected}, pinned)
            assert found == f"{provider.kind} {digest.hex()} (SHA-256 of its id), as expected"


@pytest.mark.parametrize("provider", [KMS, SGX, NONE], ids=lambda provider: provider.kind)
def test_key_provider_other_than_the_expected_one_is_refused(provider: KeyProvider) -> None:
    for expected in (OTHER_KMS_ID, hashlib.sha256(OTHER_KMS_ID).digest(), b"", hashlib.sha256(b"").digest()):
        with pytest.raises(FailedError, match="not the expected provider"):
            check_key_provider(provider, {expected}, provider.id or None)


def test_key_provider_expected_by_a_hash_of_its_hash_is_refused() -> None:
    with pytest.raises(FailedError):
        check_key_provider(KMS, {hashlib.sha256(SHA256).digest()}, None)


@pytest.mark.parametrize("provider", [KMS, SGX], ids=lambda provider: provider.kind)
def test_key_provider_must_be_the_one_the_compose_document_pins(provider: KeyProvider) -> None:
    assert "which the compose file requires" in check_key_provider(provider, (), provider.id)
    for other in (OTHER_KMS_ID, hashlib.sha256(provider.id).digest(), provider.id[:-1], b""):
        with pytest.raises(FailedError, match="the compose file requires"):
            check_key_provider(provider, (), other)


def test_keys_that_the_guest_makes_itself_need_no_provider() -> None:
    assert check_key_provider(NONE, (), None).startswith("none: ")
    with pytest.raises(FailedError, match="the compose file requires"):
        check_key_provider(NONE, (), KMS_ID)


def test_key_provider_tpm_is_refused_whatever_is_expected() -> None:
    for expected, pinned in (((), None), ({KMS_ID}, None), ({b""}, b""), ({hashlib.sha256(b"").digest()}, None)):
        with pytest.raises(FailedError, match="program of the host"):
            check_key_provider(TPM, expected, pinned)


def test_unpinned_kms_is_not_asked_and_unpinned_local_sgx_is_not_made() -> None:
    with pytest.raises(NotAskedError, match="--expect-key-provider"):
        check_key_provider(KMS, (), None)
    with pytest.raises(NotMadeError, match="--expect-key-provider") as raised:
        check_key_provider(SGX, (), None)
    assert not isinstance(raised.value, NotAskedError)


def test_pinned_key_provider_is_read_from_the_compose_document() -> None:
    assert pinned_by_compose(APP_COMPOSE) == KMS_ID
    assert pinned_by_compose(json.dumps({"key_provider_id": KMS_ID.hex().upper()})) == KMS_ID
    for nothing in ({}, {"key_provider_id": None}, {"key_provider_id": ""}, {"KEY_PROVIDER_ID": "07"}):
        assert pinned_by_compose(json.dumps(nothing)) is None


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "null",
        "{",
        '{"key_provider_id":7}',
        '{"key_provider_id":["07"]}',
        '{"key_provider_id":false}',
        '{"key_provider_id":"0"}',
        '{"key_provider_id":"0x07"}',
        '{"key_provider_id":" 07"}',
        '{"key_provider_id":"\\ud800"}',
        '{"key_provider_id":"07","key_provider_id":"08"}',
        "[" * 100_000,
    ],
    ids=lambda document: document[:40],
)
def test_malformed_key_provider_id_in_the_compose_document_is_refused(document: str) -> None:
    with pytest.raises(FailedError):
        pinned_by_compose(document)
