"""The app that a simulated guest runs: its compose document, and what the host has bound of it to the TD's creation."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from Crypto.Hash import keccak

from scripts.tee_simulator.kms import KeyProvider, KeyProviderKind

_COMPOSE_FILE = (
    "services:\n  tee-signer:\n    image: tee-signer\n    volumes:\n      - /var/run/dstack.sock:/var/run/dstack.sock\n"
)
_KIND_BYTES = {
    KeyProviderKind.NONE: b"\0",
    KeyProviderKind.LOCAL_SGX: b"\1",
    KeyProviderKind.KMS: b"\2",
    KeyProviderKind.TPM: b"\3",
}
_DOCUMENT_DOMAIN = b"dstack-mr-config-v3:\0"


class MrConfigVersion(StrEnum):
    """How the host binds the app to MRCONFIGID."""

    UNSET = "unset"
    V1 = "v1"
    V2 = "v2"
    V3 = "v3"


def default_compose(provider: KeyProvider, *, os_version: str, event_log_version: int, gpus: int) -> str:
    """A compose document such as an operator of this proxy should write, compact JSON.

    Args:
        provider: The key provider; a KMS is pinned, so that the guest takes keys from no other.
        os_version: dstack's, "0.5" or "0.6"; requirements came with the latter.
        event_log_version: 1 or 2.
        gpus: How many GPUs there are; if any, they must be attested.
    """
    compose: dict[str, Any] = {
        "manifest_version": "3" if os_version == "0.6" else 2,
        "name": "tee-signer-simulated",
        "runner": "docker-compose",
        "docker_compose_file": _COMPOSE_FILE,
        "kms_enabled": provider.kind is KeyProviderKind.KMS,
        "local_key_provider_enabled": provider.kind is KeyProviderKind.LOCAL_SGX,
        "gateway_enabled": False,
        "public_logs": False,
        "public_sysinfo": False,
        "public_tcbinfo": True,
        "allowed_envs": [],
        "no_instance_id": False,
        "secure_time": False,
    }
    if provider.kind in (KeyProviderKind.NONE, KeyProviderKind.TPM):
        compose["key_provider"] = provider.kind.value
    if provider.id:
        compose["key_provider_id"] = provider.id.hex()
    if event_log_version != 1:
        compose["event_log_version"] = event_log_version
    if os_version == "0.6":
        compose["requirements"] = {"os_version": ">=0.6.0", "platforms": ["dstack-tdx"]}
        if gpus:
            compose["requirements"]["gpu_policy"] = {"attest_gpu": True}
    return json.dumps(compose, separators=(",", ":"))


@dataclass(frozen=True)
class App:
    """An app, by its compose document.

    Attributes:
        compose: The document, the very text that `compose_hash` is the SHA-256 of.
    """

    compose: str

    @property
    def document(self) -> dict[str, Any]:
        """The document, parsed."""
        parsed: dict[str, Any] = json.loads(self.compose)
        return parsed

    @property
    def compose_hash(self) -> bytes:
        """SHA-256 of the document's text, 32 bytes."""
        return hashlib.sha256(self.compose.encode()).digest()

    @property
    def app_id(self) -> bytes:
        """The first 20 bytes of that hash, as in dstack where no other was chosen."""
        return self.compose_hash[:20]

    @property
    def event_log_version(self) -> int:
        """The version of runtime events that the document asks for: 1 or 2."""
        return 2 if self.document.get("event_log_version") == 2 else 1

    @property
    def gpu_policy_hash(self) -> bytes:
        """SHA-256 of the document's GPU policy in canonical JSON (RFC 8785), 32 bytes; of `{}` where it has none."""
        requirements = self.document.get("requirements")
        policy = requirements.get("gpu_policy", {}) if isinstance(requirements, dict) else {}
        return hashlib.sha256(_canonical(policy)).digest()


def mr_config_document(app: App, provider: KeyProvider, instance_id: bytes, *, gpus: int) -> str:
    """The document of version 3: canonical JSON of what the host binds."""
    document: dict[str, Any] = {
        "version": 3,
        "app_id": app.app_id.hex(),
        "compose_hash": app.compose_hash.hex(),
        # Only the event calls it local-sgx.
        "key_provider": "local" if provider.kind is KeyProviderKind.LOCAL_SGX else provider.kind.value,
    }
    pinned = app.document.get("key_provider_id")
    if pinned:
        document["key_provider_id"] = pinned
    if instance_id:
        document["instance_id"] = instance_id.hex()
    if gpus:
        document["gpu_policy_hash"] = app.gpu_policy_hash.hex()
    if str(app.document.get("manifest_version")) == "3":
        document["init_script_hashes"] = []
    return _canonical(document).decode()


def mr_config_id(version: MrConfigVersion, app: App, provider: KeyProvider, document: str) -> bytes:
    """MRCONFIGID, 48 bytes.

    Args:
        version: How the app is bound.
        app: The app.
        provider: Its key provider.
        document: What `mr_config_document` gives; only version 3 is over it.
    """
    match version:
        case MrConfigVersion.V1:
            bound = b"\1" + app.compose_hash
        case MrConfigVersion.V2:
            said = app.compose_hash + app.app_id + _KIND_BYTES[provider.kind] + provider.id
            bound = b"\2" + keccak.new(digest_bits=256, data=said).digest()
        case MrConfigVersion.V3:
            bound = b"\3" + hashlib.sha256(_DOCUMENT_DOMAIN + document.encode()).digest()
        case MrConfigVersion.UNSET:
            bound = b""
    return bound.ljust(48, b"\0")


def _canonical(value: Any) -> bytes:
    # This is RFC 8785 as long as names are in the basic plane and numbers are integers, as they are in these documents.
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
