"""The event log of a dstack trust domain that never booted, and the registers that its replay gives.

Shapes: dstack's event log. An event's digest extends the runtime measurement register that `imr` names, 0 to 3:
register = SHA-384(register ‖ digest), from 48 zero bytes on. Registers 0 to 2 hold the boot, by events of TCG's types;
register 3 holds what dstack itself has to say, by events of `RUNTIME_EVENT`.
"""

import hashlib
from dataclasses import asdict, dataclass

RUNTIME_EVENT = 0x08000001
"""Type of dstack's own events."""

_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
_EFI_HANDOFF_TABLES2 = 0x8000000B
_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
_EFI_ACTION = 0x80000007
_SEPARATOR = 0x00000004
_EVENT_TAG = 0x00000006


@dataclass(frozen=True)
class Event:
    """One event as dstack shows it.

    Attributes:
        imr: Register that it extends, 0 to 3.
        event_type: TCG's type, or `RUNTIME_EVENT`.
        digest: What the register is extended with, 48 bytes in hex.
        event: Name of a runtime event; empty for others.
        event_payload: Its payload in hex.
    """

    imr: int
    event_type: int
    digest: str
    event: str
    event_payload: str

    def as_json(self) -> dict[str, str | int]:
        """The event as an object of the log."""
        return asdict(self)


def runtime_event(name: str, payload: bytes) -> Event:
    """One of dstack's own events: its digest binds its type, name and payload."""
    measured = RUNTIME_EVENT.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    return Event(3, RUNTIME_EVENT, hashlib.sha384(measured).hexdigest(), name, payload.hex())


def boot_event(imr: int, event_type: int, payload: bytes) -> Event:
    """An event of the boot: its digest is that of its payload, as it is for some of TCG's types."""
    return Event(imr, event_type, hashlib.sha384(payload).hexdigest(), "", payload.hex())


def boot_events() -> list[Event]:
    """What firmware, boot loader and kernel would have measured into registers 0 to 2."""
    return [
        boot_event(0, _EFI_HANDOFF_TABLES2, b"simulated TD HOB"),
        boot_event(0, _EFI_PLATFORM_FIRMWARE_BLOB2, b"simulated firmware volume"),
        boot_event(0, _SEPARATOR, bytes(4)),
        boot_event(1, _EFI_BOOT_SERVICES_APPLICATION, b"simulated kernel"),
        boot_event(1, _EFI_ACTION, b"Calling EFI Application from Boot Option"),
        boot_event(1, _SEPARATOR, bytes(4)),
        boot_event(1, _EFI_ACTION, b"Exit Boot Services Invocation"),
        boot_event(1, _EFI_ACTION, b"Exit Boot Services Returned with Success"),
        boot_event(2, _EVENT_TAG, b"simulated kernel command line"),
        boot_event(2, _EVENT_TAG, b"simulated initrd"),
    ]


def replay(log: list[Event]) -> tuple[bytes, bytes, bytes, bytes]:
    """The four runtime measurement registers after all events of a log, 48 bytes each."""
    registers = [bytes(48)] * 4
    for event in log:
        digest = bytes.fromhex(event.digest).ljust(48, b"\0")
        registers[event.imr] = hashlib.sha384(registers[event.imr] + digest).digest()
    return registers[0], registers[1], registers[2], registers[3]
