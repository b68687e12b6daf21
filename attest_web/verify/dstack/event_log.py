"""Replays the event log of the run-time measurement registers (RTMR) in a quote.

A register starts as zeros and every event extends it: `rtmr = sha384(rtmr ‖ digest)`. A log that replays to the quoted
registers has the true digests in the true order. It does not prove the other fields of an event: the name and payload
of dstack's own events count only because their digest is computed from them, and RTMR3 has no other events.

dstack has two digests for its own events. Version 1 is `sha384(type ‖ ":" ‖ name ‖ ":" ‖ payload)`, the type as a
little-endian 32-bit integer; it does not mark where the name ends, see `boot_log`. Version 2 is the SHA-384 of
canonical JSON (RFC 8785) of name, payload and type. Since dstack 0.5.6, `GetQuote` leaves these digests out of the log
(and the payloads of the boot's other events). A missing digest is computed, and a stated one must be right.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import REGISTER_BYTES, TdxQuote
from attest_web.verify.primitives.untrusted_json import JsonObject, as_object, hex_bytes, integer, text

RUNTIME_REGISTER = 3
RUNTIME_EVENT_TYPE = 0x08000001
"""Type of the events with which dstack itself extends RTMR3."""

REGISTERS = 4

MAX_EVENTS = 4096
"""Largest number of events in a log: a boot has some thirty, and an app may add any number."""


@dataclass(frozen=True)
class Event:
    """An event of the log.

    Attributes:
        register: The RTMR that it extended, 0 to 3.
        digest: The digest that extended the register, 48 bytes.
        event_type: Its type. In RTMR3, always `RUNTIME_EVENT_TYPE`; elsewhere, as the log states it.
        name: Its name. In RTMR3, bound by the digest; elsewhere, as the log states it.
        payload: Its payload. In RTMR3, bound by the digest; elsewhere, as the log states it.
        version: In RTMR3, how the digest is computed from name and payload, 1 or 2.
    """

    register: int
    digest: bytes
    event_type: int
    name: str
    payload: bytes
    version: int = 1


def parse_event_log(entries: Sequence[object]) -> list[Event]:
    """Parse a log.

    Raises:
        FailedError: An event is malformed, or differs from what was measured.
    """
    if len(entries) > MAX_EVENTS:
        raise FailedError(f"the event log has {len(entries)} events; more than {MAX_EVENTS} are not read")
    return [_parse_event(entry, f"event {number} of the event log") for number, entry in enumerate(entries)]


def replay(events: Sequence[Event], register: int) -> bytes:
    """The 48 bytes that the events leave in a register."""
    return extended(event.digest for event in events if event.register == register)


def extended(digests: Iterable[bytes]) -> bytes:
    """The 48 bytes of a register that starts as zeros and is extended with these digests."""
    value = bytes(REGISTER_BYTES)
    for digest in digests:
        value = hashlib.sha384(value + digest).digest()
    return value


def check_replay(events: Sequence[Event], register: int, quote: TdxQuote, expected: bytes | None = None) -> str:
    """Check that the log replays to a quoted register; return what was found.

    Args:
        events: The log.
        register: The number of the RTMR, 0 to 3.
        quote: The quote.
        expected: The register that the verifier expects, 48 bytes; None for any.

    Raises:
        FailedError: The log replays to another value, or the register is not the expected one.
    """
    count = sum(event.register == register for event in events)
    gives, quoted = replay(events, register), quote.rtmrs[register]
    if gives != quoted:
        raise FailedError(f"its {count} events in the log give {gives.hex()}, the quote has {quoted.hex()}")
    if expected is not None and quoted != expected:
        raise FailedError(f"it is {quoted.hex()}, not the expected {expected.hex()}")
    return f"{count} events give {quoted.hex()}" + (", as expected" if expected is not None else "")


def runtime_digest(name: str, payload: bytes) -> bytes:
    """The 48-byte digest of a run-time event of dstack's, version 1."""
    return hashlib.sha384(RUNTIME_EVENT_TYPE.to_bytes(4, "little") + b":" + name.encode() + b":" + payload).digest()


def runtime_preimage_v2(name: str, payload: bytes) -> bytes:
    """The canonical JSON whose SHA-384 is the digest of a run-time event of dstack's, version 2.

    For an object of two strings and an integer, `json.dumps` with sorted names conforms to RFC 8785.
    """
    members = {"name": name, "payload": payload.hex(), "type": RUNTIME_EVENT_TYPE}
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _parse_event(entry: object, what: str) -> Event:
    event = as_object(entry, what)
    register = integer(event, "imr", what)
    if not 0 <= register < REGISTERS:
        raise FailedError(f"{what} is of register {register}, and there are 0 to {REGISTERS - 1}")
    event_type = integer(event, "event_type", what)
    name = text(event, "event", what)
    payload = hex_bytes(text(event, "event_payload", what), f"the payload of {what}")
    if (event_type == RUNTIME_EVENT_TYPE) != (register == RUNTIME_REGISTER):
        # The digest of an event of another type does not bind its name. With such an event, a TD that has measured two
        # compose files could hide the first one.
        raise FailedError(
            f"{what} is of type {event_type:#x} in RTMR{register}; run-time events (type {RUNTIME_EVENT_TYPE:#x}), and"
            f" no others, are in RTMR{RUNTIME_REGISTER}"
        )
    if register != RUNTIME_REGISTER:
        return Event(register, _stated_digest(event, what), event_type, name, payload)
    version = 1 if event.get("version") is None else integer(event, "version", what)
    if version == 1:
        digest = runtime_digest(name, payload)
    elif version == 2:
        digest = hashlib.sha384(_preimage(event, name, payload, what)).digest()
    else:
        raise FailedError(f"{what} is of version {version}; 1 and 2 are known")
    if event.get("digest") not in (None, "") and _stated_digest(event, what) != digest:
        raise FailedError(f"the digest of {what} ({name!r}) is not that of its name and payload")
    return Event(register, digest, event_type, name, payload, version)


def _preimage(event: JsonObject, name: str, payload: bytes, what: str) -> bytes:
    canonical = runtime_preimage_v2(name, payload)
    if event.get("preimage") in (None, ""):
        return canonical
    # Another parser could read a preimage in another form, which has the stated digest, as another event.
    if hex_bytes(text(event, "preimage", what), f"the preimage of {what}") != canonical:
        raise FailedError(f"the preimage of {what} ({name!r}) is not the canonical JSON of its name and payload")
    return canonical


def _stated_digest(event: JsonObject, what: str) -> bytes:
    digest = hex_bytes(text(event, "digest", what), f"the digest of {what}")
    if not 0 < len(digest) <= REGISTER_BYTES:
        raise FailedError(f"the digest of {what} is {len(digest)} bytes long, not 1 to {REGISTER_BYTES}")
    return digest.ljust(REGISTER_BYTES, b"\0")
