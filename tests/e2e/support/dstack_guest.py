"""A dstack guest for the front page and the by-hand program to check: its event log, and a quote without a signature.

All is computed here from dstack's formulas, and by none of the code under test.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

RUNTIME_EVENT = 0x08000001

Event = dict[str, Any]
RuntimeEvent = tuple[str, bytes]
"""Name and payload of an event of dstack's own."""

APP_ID, INSTANCE_ID = b"\x0a" * 20, b"\x0b" * 20
KMS_KEY = bytes(range(91))
"""Stands for a KMS's key, which is 91 bytes of DER."""

FIRMWARE_EVENTS: list[Event] = [
    {"imr": 0, "event_type": 1, "digest": "11" * 48, "event": "", "event_payload": ""},
    {"imr": 1, "event_type": 1, "digest": "22" * 20, "event": "", "event_payload": ""},  # shorter than a register
    {"imr": 2, "event_type": 6, "digest": "33" * 48, "event": "", "event_payload": ""},
]


def sha256(text: str) -> bytes:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).digest()


def runtime_digest(name: str, payload: bytes) -> bytes:
    """The digest of an event of dstack's own, version 1."""
    return hashlib.sha384(b"\x01\x00\x00\x08:" + name.encode() + b":" + payload).digest()


def shown(event: RuntimeEvent) -> Event:
    """An event as `GetQuote` shows it since dstack 0.5.6: without its digest."""
    name, payload = event
    return {"imr": 3, "event_type": RUNTIME_EVENT, "digest": "", "event": name, "event_payload": payload.hex()}


def key_provider(kind: str, provider_id: bytes = b"") -> bytes:
    """Payload of the event that names the provider of the keys."""
    return json.dumps({"name": kind, "id": provider_id.hex()}, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Guest:
    """A guest that has booted.

    Attributes:
        app_compose: Its compose document.
        provider: Payload of its event `key-provider`.
        mr_config_id: MRCONFIGID, 48 bytes.
        vm_config: What its host says of it.
        optional: Events that not every guest has, each with the name of the one that it comes before.
        later: What its app has measured.
    """

    app_compose: str = '{"manifest_version":2,"name":"demo"}'
    provider: bytes = key_provider("kms", KMS_KEY)
    mr_config_id: bytes = bytes(48)
    vm_config: dict[str, Any] = field(default_factory=dict)
    optional: tuple[tuple[str, RuntimeEvent], ...] = ()
    later: tuple[RuntimeEvent, ...] = ()

    @property
    def boot(self) -> list[RuntimeEvent]:
        """The events measured while it booted, in order."""
        events = [
            ("system-preparing", b""),
            ("app-id", APP_ID),
            ("compose-hash", sha256(self.app_compose)),
            ("instance-id", INSTANCE_ID),
            ("boot-mr-done", b""),
            ("key-provider", self.provider),
            ("system-ready", b""),
        ]
        for before, event in self.optional:
            events.insert([name for name, _ in events].index(before), event)
        return events

    def report(
        self, events: Sequence[RuntimeEvent] | None = None, log: Sequence[Event] | None = None
    ) -> dict[str, Any]:
        """A report with its quote and its log.

        Args:
            events: What has happened, if it is not what `boot` and `later` have.
            log: What is shown of that, if it is not the truth.
        """
        happened = [*self.boot, *self.later] if events is None else events
        # Registers interleave in real logs.
        truth = [*FIRMWARE_EVENTS[:2], *map(shown, happened[:1]), FIRMWARE_EVENTS[2], *map(shown, happened[1:])]
        return {
            "intel_quote": quote(registers(truth), self.mr_config_id).hex(),
            "event_log": truth if log is None else [*FIRMWARE_EVENTS, *log],
            "info": {"tcb_info": json.dumps({"app_compose": self.app_compose})},
            "vm_config": json.dumps(self.vm_config),
        }

    def with_config(self, version: int, digest: bytes, document: str | None = None) -> "Guest":
        """The same guest, its MRCONFIGID set."""
        vm_config = {} if document is None else {"mr_config": document}
        return replace(self, mr_config_id=(bytes([version]) + digest).ljust(48, b"\0"), vm_config=vm_config)


def registers(log: Sequence[Event]) -> list[bytes]:
    """RTMR0 to RTMR3 after the events of a log, 48 bytes each."""
    values = [bytes(48)] * 4
    for event in log:
        payload = bytes.fromhex(event["event_payload"])
        digest = runtime_digest(event["event"], payload) if event["imr"] == 3 else bytes.fromhex(event["digest"])
        values[event["imr"]] = hashlib.sha384(values[event["imr"]] + digest.ljust(48, b"\0")).digest()
    return values


def quote(rtmrs: Sequence[bytes], mr_config_id: bytes, report_data: bytes = bytes(64)) -> bytes:
    """Header and body of a quote of version 4: `struct`'s fields, zeros where nothing here reads them."""
    measured = bytes(48) + mr_config_id + bytes(2 * 48) + b"".join(rtmrs) + report_data
    made = struct.pack("<HHI", 4, 2, 0x81).ljust(48 + 136, b"\0") + measured
    assert len(made) == 48 + 584
    return made
