"""dstack's versioned attestation: quote, log and configuration in one, as `Attest` and RA-TLS certificates have it.

Two encodings, told apart by the first byte. A log of version 1 makes SCALE with 0x00 in front; a log with an event of
version 2 makes msgpack, which begins with a map's byte. (SCALE: "Simple Concatenated Aggregate Little-Endian" of
Substrate; lengths are compact integers.)
"""

from dataclasses import dataclass

import msgpack

from scripts.tee_simulator.event_log import Event, Log

_SCALE_VERSION_0 = b"\x00"
_SCALE_TDX = b"\x00"


@dataclass(frozen=True)
class Attestation:
    """What is attested.

    Attributes:
        quote: TDX quote.
        shown_log: The event log in the form that is shown here.
        runtime_events: The runtime events of the log, for platforms whose log holds none.
        report_data: The quote's, 64 bytes.
        config: `vm_config`, JSON.
    """

    quote: bytes
    shown_log: Log
    runtime_events: Log
    report_data: bytes
    config: str

    def encoded(self) -> bytes:
        """The attestation in the encoding that dstack gives to its log."""
        if any(event.version != 1 for event in self.runtime_events):
            return self._msgpack()
        return self._scale()

    def _scale(self) -> bytes:
        evidence = _scale_bytes(self.quote) + _scale_list([_scale_event(event) for event in self.shown_log])
        named = [
            _scale_bytes(event.event.encode()) + _scale_bytes(event.event_payload) for event in self.runtime_events
        ]
        stack = _scale_list(named) + self.report_data + _scale_bytes(self.config.encode())
        return _SCALE_VERSION_0 + _SCALE_TDX + evidence + stack

    def _msgpack(self) -> bytes:
        # Bytes that dstack declares without more are arrays of integers in its msgpack.
        evidence = {"quote": list(self.quote), "event_log": [event.as_msgpack() for event in self.shown_log]}
        events = [
            {"event": event.event, "payload": event.event_payload, "version": event.version}
            for event in self.runtime_events
        ]
        stack = {"report_data": list(self.report_data), "runtime_events": events, "config": self.config}
        attestation = {
            "version": 1,
            "platform": {"kind": "tdx", "data": evidence},
            "stack": {"kind": "dstack", "data": stack},
        }
        packed: bytes = msgpack.packb(attestation)
        return packed


def scale_length(length: int) -> bytes:
    """A length as SCALE's compact integer.

    Raises:
        ValueError: It is 2^30 or more.
    """
    if length < 1 << 6:
        return (length << 2).to_bytes(1, "little")
    if length < 1 << 14:
        return (length << 2 | 1).to_bytes(2, "little")
    if length < 1 << 30:
        return (length << 2 | 2).to_bytes(4, "little")
    raise ValueError(f"{length} is longer than anything that is attested")


def _scale_bytes(content: bytes) -> bytes:
    return scale_length(len(content)) + content


def _scale_list(encoded: list[bytes]) -> bytes:
    return scale_length(len(encoded)) + b"".join(encoded)


def _scale_event(event: Event) -> bytes:
    numbers = event.imr.to_bytes(4, "little") + event.event_type.to_bytes(4, "little")
    return numbers + b"".join(_scale_bytes(part) for part in (event.digest, event.event.encode(), event.event_payload))
