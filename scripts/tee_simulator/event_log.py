"""The event log of a dstack trust domain, the registers that its replay gives, and the forms that it is shown in.

An event's digest extends the runtime measurement register that `imr` names, 0 to 3: register = SHA-384(register ‖
digest), from 48 zero bytes on. Registers 0 to 2 hold the boot, by events of TCG's types. Register 3 holds dstack's own
events, of the type `RUNTIME_EVENT`.

A guest shows the same log in four forms, which leave out different parts that a verifier can compute:

| shown by | boot events | runtime events |
| --- | --- | --- |
| `Info`, and `GetQuote` before 0.5.6 | all | digest; no preimage |
| `GetQuote` from 0.5.6 on | no payload, except ACPI data | no digest; V2 with its preimage |
| `Attest` | all | digest; V2 with its preimage |
| an RA-TLS certificate | ACPI data only | neither digest nor preimage |
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

RUNTIME_EVENT = 0x08000001
"""Type of dstack's own events."""

EFI_ACTION = 0x80000007
EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EFI_HANDOFF_TABLES2 = 0x8000000B
EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EFI_VARIABLE_BOOT = 0x80000002
EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EVENT_TAG = 0x00000006
PLATFORM_CONFIG_FLAGS = 0x0000000A
SEPARATOR = 0x00000004

ACPI_DATA = b"ACPI DATA"
"""Payload of the three events whose digests are those of the ACPI tables that the host made."""

APP_REGISTER = 3
"""The register of dstack's own events."""


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        imr: Register that it extends, 0 to 3.
        event_type: TCG's type, or `RUNTIME_EVENT`.
        digest: What the register is extended with, 48 bytes; empty where a form leaves it out.
        event: Name of a runtime event, or of an ACPI table; empty for others.
        event_payload: Its payload; empty where a form leaves it out.
        version: How the digest of a runtime event is computed, 1 or 2.
        preimage: What a runtime event's digest is of, where a form shows it.
    """

    imr: int
    event_type: int
    digest: bytes
    event: str
    event_payload: bytes
    version: int = 1
    preimage: bytes | None = None

    def as_json(self) -> dict[str, Any]:
        """The event as an object of the log: bytes in hex, members that say nothing left out."""
        return self.as_msgpack() | {"digest": self.digest.hex(), "event_payload": self.event_payload.hex()}

    def as_msgpack(self) -> dict[str, Any]:
        """The event as dstack's msgpack has it: digest and payload in bytes, the preimage still in hex."""
        shown: dict[str, Any] = {
            "imr": self.imr,
            "event_type": self.event_type,
            "digest": self.digest,
            "event": self.event,
            "event_payload": self.event_payload,
        }
        if self.version != 1:
            shown["version"] = self.version
        if self.preimage is not None:
            shown["preimage"] = self.preimage.hex()
        return shown

    @property
    def is_runtime(self) -> bool:
        """Whether it is one of dstack's own."""
        return self.event_type == RUNTIME_EVENT

    @property
    def is_acpi_data(self) -> bool:
        """Whether its digest is that of an ACPI table, and its name the table's."""
        return self.event_type == PLATFORM_CONFIG_FLAGS and bool(self.event) and self.event_payload == ACPI_DATA


Log = tuple[Event, ...]


def runtime_preimage(name: str, payload: bytes, version: int = 1) -> bytes:
    """What the digest of a runtime event is the SHA-384 of.

    Args:
        name: The event's.
        payload: The event's.
        version: 1: type ‖ ":" ‖ name ‖ ":" ‖ payload. 2: canonical JSON (RFC 8785) of name, payload in hex and type.
    """
    if version == 1:
        return RUNTIME_EVENT.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    said = {"name": name, "payload": payload.hex(), "type": RUNTIME_EVENT}
    return json.dumps(said, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def runtime_event(name: str, payload: bytes, version: int = 1) -> Event:
    """One of dstack's own events: its digest binds its type, name and payload."""
    digest = hashlib.sha384(runtime_preimage(name, payload, version)).digest()
    return Event(APP_REGISTER, RUNTIME_EVENT, digest, name, payload, version)


def replay(log: Log) -> tuple[bytes, bytes, bytes, bytes]:
    """The four runtime measurement registers after all events of a log, 48 bytes each."""
    registers = [bytes(48)] * 4
    for event in log:
        registers[event.imr] = hashlib.sha384(registers[event.imr] + event.digest.ljust(48, b"\0")).digest()
    return registers[0], registers[1], registers[2], registers[3]


def stripped(log: Log) -> Log:
    """A log as `GetQuote` shows it from dstack 0.5.6 on."""
    return tuple(_with_preimage(_stripped(event)) for event in log)


def with_preimages(log: Log) -> Log:
    """A log as `Attest` shows it."""
    return tuple(_with_preimage(event) for event in log)


def of_certificate(log: Log) -> Log:
    """A log as an RA-TLS certificate has it."""
    return tuple(_stripped(event) for event in log if event.is_acpi_data or event.imr == APP_REGISTER)


def _stripped(event: Event) -> Event:
    if event.is_runtime:
        return replace(event, digest=b"")
    return event if event.is_acpi_data else replace(event, event_payload=b"")


def _with_preimage(event: Event) -> Event:
    if not event.is_runtime or event.version == 1:
        return event
    return replace(event, preimage=runtime_preimage(event.event, event.event_payload, event.version))
