"""The guest's own measurements at boot: the events of RTMR3 up to the first `system-ready`.

dstack's guest (`dstack-util setup`, as of 0.6) extends RTMR3 with these events, in this order and each once:

    system-preparing   empty
    app-id             20 bytes
    compose-hash       32 bytes, the SHA-256 of the app's compose document
    init-script-hash   32 bytes, no such event to five of them (from 0.6 on)
    gpu-policy-hash    32 bytes, left out by images before July 2026
    gpu-attestation    JSON, where GPUs were attested (from 0.6 on)
    instance-id        20 bytes, or empty
    boot-mr-done       empty
    mr-kms             32 bytes, no such event to eight of them (up to 0.5.11)
    os-image-hash      32 bytes, where a KMS issued the keys: the image hash as that KMS states it
    key-provider       JSON: {"name": kind, "id": hex}
    storage-fs         "zfs" or "ext4" (from 0.5.5 on)
    system-ready       empty

The events that follow are the app's, with any name and payload. So claims are read from the boot log alone. The grammar
is strict because a digest of version 1 does not mark where an event's name ends: the event `compose-hash` with the
payload `:…` can be presented as the event `compose-hash:` with the payload `…`. At most one reading of a digest has a
name without a colon. So colons in names are rejected, and each event is unambiguous.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from attest_web.verify.dstack.event_log import RUNTIME_REGISTER, Event
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import hex_bytes

APP_ID_BYTES = 20
SHA256_BYTES = 32
LAST_EVENT = "system-ready"

MAX_INIT_SCRIPTS = 5
MAX_KMS_MEASUREMENTS = 8
MAX_JSON = 4096
"""Largest payload of a `key-provider` or `gpu-attestation` event, in bytes."""

_KEY_PROVIDER = re.compile(rb'\{"name":"([a-z-]{1,16})","id":"([0-9a-f]{0,2048})"\}')


class KeyProviderKind(StrEnum):
    """Kinds of key providers, as dstack names them."""

    KMS = "kms"
    LOCAL_SGX = "local-sgx"
    TPM = "tpm"
    NONE = "none"


@dataclass(frozen=True)
class KeyProvider:
    """The provider of the guest's keys.

    Attributes:
        kind: The kind of provider.
        id: KMS: its CA key, a SubjectPublicKeyInfo in DER. SGX enclave: its MRENCLAVE, 32 bytes. Otherwise empty.
    """

    kind: KeyProviderKind
    id: bytes


@dataclass(frozen=True)
class BootLog:
    """The guest's own measurements, by the grammar above.

    Attributes:
        app_id: 20 bytes. The host may choose it.
        compose_hash: SHA-256 of the compose document, 32 bytes.
        init_script_hashes: 32 bytes each.
        gpu_policy_hash: 32 bytes; None where the image measures none.
        gpu_attestation: JSON, not yet read; None where no GPU was attested.
        instance_id: 20 bytes, or empty.
        os_image_hash: The image that the KMS names, 32 bytes; None without a KMS. It proves nothing about the image.
        key_provider: The provider of the keys.
    """

    app_id: bytes
    compose_hash: bytes
    init_script_hashes: tuple[bytes, ...]
    gpu_policy_hash: bytes | None
    gpu_attestation: bytes | None
    instance_id: bytes
    os_image_hash: bytes | None
    key_provider: KeyProvider

    @classmethod
    def parse(cls, events: Sequence[Event]) -> "BootLog":
        """Parse the boot section of an event log that replays to the quoted RTMR3.

        Raises:
            FailedError: It is not of the form above.
        """
        reader = _Reader(_boot_section(events))
        reader.one("system-preparing", 0)
        app_id = reader.one("app-id", APP_ID_BYTES)
        compose_hash = reader.one("compose-hash", SHA256_BYTES)
        init_script_hashes = reader.some("init-script-hash", SHA256_BYTES, MAX_INIT_SCRIPTS)
        gpu_policy_hash = reader.optional("gpu-policy-hash", SHA256_BYTES)
        gpu_attestation = reader.optional("gpu-attestation", *range(1, MAX_JSON + 1))
        instance_id = reader.one("instance-id", 0, APP_ID_BYTES)
        reader.one("boot-mr-done", 0)
        reader.some("mr-kms", SHA256_BYTES, MAX_KMS_MEASUREMENTS)
        os_image_hash = reader.optional("os-image-hash", SHA256_BYTES)
        key_provider = _key_provider(reader.one("key-provider", *range(1, MAX_JSON + 1)))
        if reader.optional("storage-fs", 3, 4) not in (None, b"zfs", b"ext4"):
            raise FailedError("the boot log names a file system that dstack does not have")
        reader.one(LAST_EVENT, 0)
        return cls(
            app_id=app_id,
            compose_hash=compose_hash,
            init_script_hashes=init_script_hashes,
            gpu_policy_hash=gpu_policy_hash,
            gpu_attestation=gpu_attestation,
            instance_id=instance_id,
            os_image_hash=os_image_hash,
            key_provider=key_provider,
        )


class _Reader:
    """Reads events in order, by name and permitted payload lengths."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._next = next(events, None)

    def one(self, name: str, *lengths: int) -> bytes:
        event = self._next
        if event is None:
            raise FailedError(f"the boot log ends where {name!r} should follow; it goes up to {LAST_EVENT!r}")
        if event.name != name:
            raise FailedError(f"the boot log has {event.name!r} where {name!r} should be")
        if len(event.payload) not in lengths:
            raise FailedError(f"{name!r} in the boot log has a payload of {len(event.payload)} bytes")
        self._next = next(self._events, None)
        return event.payload

    def optional(self, name: str, *lengths: int) -> bytes | None:
        return self.one(name, *lengths) if self._next is not None and self._next.name == name else None

    def some(self, name: str, length: int, most: int) -> tuple[bytes, ...]:
        payloads: list[bytes] = []
        while len(payloads) < most and (payload := self.optional(name, length)) is not None:
            payloads.append(payload)
        return tuple(payloads)


def _boot_section(events: Sequence[Event]) -> Iterator[Event]:
    for event in events:
        if event.register == RUNTIME_REGISTER:
            yield event
            if event.name == LAST_EVENT:
                return


def _key_provider(payload: bytes) -> KeyProvider:
    found = _KEY_PROVIDER.fullmatch(payload)
    if found is None:
        raise FailedError("the key provider in the boot log is not of dstack's form")
    try:
        kind = KeyProviderKind(found[1].decode())
    except ValueError:
        raise FailedError(f"the boot log names a key provider of an unknown kind, {found[1].decode()!r}") from None
    provider_id = hex_bytes(found[2].decode(), "the key provider's id")
    if bool(provider_id) != (kind in (KeyProviderKind.KMS, KeyProviderKind.LOCAL_SGX)):
        raise FailedError(f"a key provider of the kind {kind} with an id of {len(provider_id)} bytes is not dstack's")
    return KeyProvider(kind, provider_id)
