"""dstack's own form of an attestation, which `Attest` returns and its TLS certificates carry: a quote with its log.

Two encodings. The first byte 00 is SCALE (Substrate's codec), of logs whose events are all of version 1:

    00 ‖ kind (0: TDX) ‖ quote ‖ event log ‖ run-time events ‖ report_data, 64 bytes ‖ configuration
    an event: register, 32 bits ‖ type, 32 bits ‖ digest ‖ name ‖ payload

Anything else is MessagePack of `{version: 1, platform: {kind, data}, stack: {kind, data}}`, in which a quote is a list
of integers. Only TDX is supported. The run-time events are in the event log as well, and are read there.
"""

from dataclasses import dataclass
from typing import Any

import msgpack

from attest_web.verify.dstack.event_log import MAX_EVENTS, Event, parse_event_log
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import JsonObject, as_object, integer, member, parse_object, text

MAX_BYTES = 1024 * 1024
"""Largest attestation that is read, in bytes; a real one has some ten thousand."""

REPORT_DATA_BYTES = 64

_WHAT = "the attestation"
_TDX = 0


@dataclass(frozen=True)
class Attestation:
    """An attestation of a TDX guest that runs dstack.

    Attributes:
        quote: The quote.
        events: The event log. The log in a certificate has only RTMR3 and the ACPI events.
        report_data: 64 bytes of claimed report_data; only the quote proves them.
        vm_config: The host's description of the virtual machine; empty without one.
    """

    quote: bytes
    events: list[Event]
    report_data: bytes
    vm_config: JsonObject

    @classmethod
    def parse(cls, data: bytes) -> "Attestation":
        """Parse an attestation.

        Raises:
            FailedError: It is malformed, too long, or of another platform.
        """
        if len(data) > MAX_BYTES:
            raise FailedError(f"{_WHAT} is {len(data)} bytes long; more than {MAX_BYTES} are not read")
        return _from_scale(data) if data[:1] == b"\0" else _from_messagepack(data)


def _from_scale(data: bytes) -> Attestation:
    scale = _Scale(data[1:])
    if scale.fixed(1)[0] != _TDX:
        raise FailedError(f"{_WHAT} is of another platform than TDX")
    quote = scale.block()
    entries = [
        {
            "imr": scale.unsigned_32(),
            "event_type": scale.unsigned_32(),
            "digest": scale.block().hex(),
            "event": scale.text(),
            "event_payload": scale.block().hex(),
        }
        for _ in range(scale.count())
    ]
    for _ in range(scale.count()):
        scale.block()
        scale.block()
    report_data = scale.fixed(REPORT_DATA_BYTES)
    configuration = scale.text()
    scale.end()
    return Attestation(quote, parse_event_log(entries), report_data, _vm_config(configuration))


def _from_messagepack(data: bytes) -> Attestation:
    source = as_object(_unpacked(data), _WHAT)
    if integer(source, "version", _WHAT) != 1:
        raise FailedError(f"{_WHAT} is of a version that is not known")
    platform = as_object(member(source, "platform", _WHAT), "its platform")
    stack = as_object(member(source, "stack", _WHAT), "its stack")
    if member(platform, "kind", "its platform") != "tdx":
        raise FailedError(f"{_WHAT} is of another platform than TDX")
    if member(stack, "kind", "its stack") not in ("dstack", "dstack-pod"):
        raise FailedError(f"{_WHAT} is of another stack than dstack")
    evidence = as_object(member(platform, "data", "its platform"), "its evidence")
    said = as_object(member(stack, "data", "its stack"), "its stack's data")
    log = member(evidence, "event_log", "its evidence")
    if not isinstance(log, list):
        raise FailedError(f"the event log of {_WHAT} is not a list")
    entries = [_entry(each, f"event {number} of {_WHAT}") for number, each in enumerate(log)]
    report_data = _octets(said, "report_data")
    if len(report_data) != REPORT_DATA_BYTES:
        raise FailedError(f"{_WHAT} has report_data of {len(report_data)} bytes, not {REPORT_DATA_BYTES}")
    configuration = text(said, "config", "its stack's data") if said.get("config") is not None else ""
    return Attestation(_octets(evidence, "quote"), parse_event_log(entries), report_data, _vm_config(configuration))


def _unpacked(data: bytes) -> Any:
    def without_duplicates(members: list[tuple[Any, Any]]) -> JsonObject:
        made = dict(members)
        if len(made) != len(members):
            raise FailedError(f"{_WHAT} has an object with two members of one name")
        if not all(isinstance(name, str) for name in made):
            raise FailedError(f"{_WHAT} has bytes for a name, which some parsers read as text")
        return made

    try:
        return msgpack.unpackb(data, object_pairs_hook=without_duplicates)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise FailedError(f"{_WHAT} is not MessagePack") from None


def _entry(event: object, what: str) -> JsonObject:
    """An event in the form of a JSON event log, which has hex in place of bytes."""
    source = as_object(event, what)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in source.items()}


def _octets(source: JsonObject, name: str) -> bytes:
    value = member(source, name, _WHAT)
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, list) and all(type(each) is int for each in value):
            return bytes(value)
    except ValueError:
        pass
    raise FailedError(f"{name!r} of {_WHAT} is not bytes")


def _vm_config(configuration: str) -> JsonObject:
    """Parse `vm_config`: the configuration is this itself, or a system configuration that holds it as a text."""
    if not configuration:
        return {}
    source = parse_object(configuration, f"the configuration of {_WHAT}")
    inner = source.get("vm_config")
    if inner is None:
        return source
    return parse_object(inner, "vm_config") if isinstance(inner, str) else as_object(inner, "vm_config")


class _Scale:
    """Parses SCALE (https://docs.polkadot.com/polkadot-protocol/parachain-basics/data-encoding/)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fixed(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            raise FailedError(f"{_WHAT} ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def unsigned_32(self) -> int:
        return int.from_bytes(self.fixed(4), "little")

    def length(self) -> int:
        """A compact integer of at most 30 bits, more than `MAX_BYTES` needs, in its shortest encoding."""
        first = self.fixed(1)
        mode = first[0] & 3
        if mode == 3:
            raise FailedError(f"{_WHAT} has a length that is too large")
        length = int.from_bytes(first + self.fixed((0, 1, 3)[mode]), "little") >> 2
        if length < (0, 1 << 6, 1 << 14)[mode]:
            raise FailedError(f"{_WHAT} has a length that is longer than it has to be")
        return length

    def count(self) -> int:
        count = self.length()
        if count > MAX_EVENTS:
            raise FailedError(f"{_WHAT} has {count} events; more than {MAX_EVENTS} are not read")
        return count

    def block(self) -> bytes:
        return self.fixed(self.length())

    def text(self) -> str:
        try:
            return self.block().decode()
        except UnicodeDecodeError:
            raise FailedError(f"{_WHAT} has a text that is not UTF-8") from None

    def end(self) -> None:
        if self._at != len(self._data):
            raise FailedError(f"{_WHAT} has {len(self._data) - self._at} bytes too many")
