"""The event log behind the run-time measurement registers (RTMR) of a quote, replayed.

A register starts as zeros and every event extends it: `rtmr = sha384(rtmr ‖ digest)`. A log that gives the quoted
registers is the one that happened. That fixes the digests of its events, not what else is written beside them: the
payload of dstack's own events is taken only after its digest has been made again from it, and RTMR3 has no others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from attest_web.verify.checks import FailedError
from attest_web.verify.quote import REGISTER_BYTES, TdxQuote
from attest_web.verify.untrusted_json import as_object, hex_bytes, integer, text

RUNTIME_REGISTER = 3
RUNTIME_EVENT_TYPE = 0x08000001
"""Type of the events that dstack itself extends RTMR3 with."""

COMPOSE_EVENT = "compose-hash"
REGISTERS = 4


@dataclass(frozen=True)
class Event:
    """An event of the log.

    Attributes:
        register: Which RTMR it extended, 0 to 3.
        digest: What it extended it with, 48 bytes.
        name: Its name, where it is a run-time event of dstack's whose digest is really that of its name and payload.
        payload: Its payload, with the same proviso.
    """

    register: int
    digest: bytes
    name: str | None = None
    payload: bytes | None = None


def parse_event_log(entries: Sequence[object]) -> list[Event]:
    """Read a log.

    Raises:
        FailedError: An event is malformed, or says something else than what was measured.
    """
    return [_parse_event(entry, f"event {number} of the event log") for number, entry in enumerate(entries)]


def replay(events: Sequence[Event], register: int) -> bytes:
    """The 48 bytes that the events leave in a register."""
    value = bytes(REGISTER_BYTES)
    for event in events:
        if event.register == register:
            value = hashlib.sha384(value + event.digest).digest()
    return value


def check_replay(events: Sequence[Event], register: int, quote: TdxQuote, expected: bytes | None = None) -> str:
    """Check that the log gives a quoted register; return what was found.

    Args:
        events: The log.
        register: Which RTMR, 0 to 3.
        quote: The quote.
        expected: 48 bytes that the register must be, where the verifier knows them.

    Raises:
        FailedError: It gives something else, or the register is not the expected one.
    """
    count = sum(event.register == register for event in events)
    gives, quoted = replay(events, register), quote.rtmrs[register]
    if gives != quoted:
        raise FailedError(f"its {count} events in the log give {gives.hex()}, the quote has {quoted.hex()}")
    if expected is not None and quoted != expected:
        raise FailedError(f"it is {quoted.hex()}, not the expected {expected.hex()}")
    return f"{count} events give {quoted.hex()}" + (", as expected" if expected is not None else "")


def check_compose(events: Sequence[Event], app_compose: str, expected: bytes | None) -> str:
    """Check that the compose file is the one that was measured; return what was found.

    Args:
        events: A log that gives the quoted registers.
        app_compose: The compose file, exactly as `tcb_info` has it.
        expected: Its SHA-256 where the verifier knows it.

    Raises:
        FailedError: Another one was measured, or none, or more than one.
    """
    measured = [event.payload for event in events if event.name == COMPOSE_EVENT]
    if len(measured) != 1:
        raise FailedError(f"the event log has {len(measured)} events {COMPOSE_EVENT!r} in RTMR3 instead of one")
    digest = hashlib.sha256(app_compose.encode()).digest()
    if digest != measured[0]:
        shown = (measured[0] or b"").hex()[:64]
        raise FailedError(f"SHA-256 of app_compose is {digest.hex()}, but {shown or 'nothing'} was measured")
    if expected is not None and digest != expected:
        raise FailedError(f"{digest.hex()} was measured, not the expected {expected.hex()}")
    return f"{digest.hex()} was measured" + (", as expected" if expected is not None else "")


def runtime_digest(name: str, payload: bytes) -> bytes:
    """The 48-byte digest of a run-time event of dstack's."""
    return hashlib.sha384(RUNTIME_EVENT_TYPE.to_bytes(4, "little") + b":" + name.encode() + b":" + payload).digest()


def _parse_event(entry: object, what: str) -> Event:
    event = as_object(entry, what)
    register = integer(event, "imr", what)
    if not 0 <= register < REGISTERS:
        raise FailedError(f"{what} is of register {register}, and there are 0 to {REGISTERS - 1}")
    digest = hex_bytes(text(event, "digest", what), f"the digest of {what}")
    if not 0 < len(digest) <= REGISTER_BYTES:
        raise FailedError(f"the digest of {what} is {len(digest)} bytes long, not 1 to {REGISTER_BYTES}")
    digest = digest.ljust(REGISTER_BYTES, b"\0")
    if register != RUNTIME_REGISTER:
        return Event(register, digest)
    # An event of another type would be one whose name nothing vouches for. With one, a TD that has measured two
    # compose files could hide the first.
    if integer(event, "event_type", what) != RUNTIME_EVENT_TYPE:
        raise FailedError(f"{what} is in RTMR{register} and not a run-time event (type {RUNTIME_EVENT_TYPE:#x})")
    name = text(event, "event", what)
    payload = hex_bytes(text(event, "event_payload", what), f"the payload of {what}")
    if runtime_digest(name, payload) != digest:
        raise FailedError(f"name and payload of {what} ({name!r}) are not what its digest was made from")
    return Event(register, digest, name, payload)
