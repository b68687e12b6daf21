from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.dstack.attestation import MAX_BYTES, Attestation
from attest_web.verify.dstack.boot_log import BootLog
from attest_web.verify.dstack.event_log import replay
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import TdxQuote


@pytest.fixture(scope="module")
def scale(dstack_vectors: dict[str, Any]) -> bytes:
    """The attestation that dstack's own simulator has, of a real guest."""
    return bytes.fromhex(dstack_vectors["real_quotes"]["simulator-attestation"]["scale_v0_hex"])


@pytest.fixture(scope="module")
def packed(dstack_vectors: dict[str, Any]) -> bytes:
    """What the guest agent puts into a certificate where the log has events of version 2."""
    return bytes.fromhex(dstack_vectors["real_agent"]["tls"]["v2_attestation_hex"])


def test_scale_attestation_is_decoded_as_dstack_does(scale: bytes, dstack_vectors: dict[str, Any]) -> None:
    decoded = dstack_vectors["real_quotes"]["simulator-attestation"]["decoded"]
    attestation = Attestation.parse(scale)
    runtime = [[event.name, event.payload.hex()] for event in attestation.events if event.register == 3]
    assert runtime == decoded["runtime_events"]
    assert attestation.report_data.hex() == decoded["report_data"]
    assert attestation.vm_config["image"] == "dstack-0.6.0"  # a text in the system configuration, in this one
    quote = TdxQuote.parse(attestation.quote)
    assert [replay(attestation.events, register) for register in range(4)] == list(quote.rtmrs)


def test_messagepack_attestation_is_decoded_with_events_of_version_2(packed: bytes) -> None:
    attestation = Attestation.parse(packed)
    assert {event.version for event in attestation.events if event.register == 3} == {2}
    assert replay(attestation.events, 3) == TdxQuote.parse(attestation.quote).rtmrs[3]
    assert BootLog.parse(attestation.events).app_id.hex() == "5bb4ff9a3837357f19dc176407a5709c62eb6c56"
    assert attestation.vm_config["tdx_attestation_variant"] == "lite"


def test_scale_attestation_truncated_or_extended_is_refused(scale: bytes) -> None:
    for end in range(0, len(scale), 37):
        with pytest.raises(FailedError):
            Attestation.parse(scale[:end])
    with pytest.raises(FailedError, match="too many"):
        Attestation.parse(scale + b"\0")
    with pytest.raises(FailedError, match="MessagePack"):
        Attestation.parse(b"\x81" + scale[1:])


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 255])
def test_attestation_of_another_platform_is_refused(scale: bytes, kind: int) -> None:
    with pytest.raises(FailedError, match="another platform"):
        Attestation.parse(scale[:1] + bytes([kind]) + scale[2:])


def test_attestation_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(FailedError, match="not read"):
        Attestation.parse(bytes(MAX_BYTES + 1))


def set_to(value: Any, *path: Any) -> Callable[[Any], None]:
    def bend(source: Any) -> None:
        for name in path[:-1]:
            source = source[name]
        source[path[-1]] = value

    return bend


@pytest.mark.parametrize(
    ("bend", "why"),
    [
        (set_to(2, "version"), "version"),
        (set_to(True, "version"), "version"),
        (set_to(1.0, "version"), "version"),
        (set_to("1", "version"), "version"),
        (set_to(1, b"version"), "bytes for a name"),
        (set_to("00", "platform", "data", "event_log", 0, b"digest"), "bytes for a name"),
        (set_to("gcp-tdx", "platform", "kind"), "another platform"),
        (set_to("other", "stack", "kind"), "another stack"),
        (set_to([256], "platform", "data", "quote"), "not bytes"),
        (set_to(["1"], "platform", "data", "quote"), "not bytes"),
        (set_to([1] * 63, "stack", "data", "report_data"), "63 bytes"),
        (set_to({}, "platform", "data", "event_log"), "not a list"),
        (set_to("no JSON", "stack", "data", "config"), "not JSON"),
        (set_to(9, "platform", "data", "event_log", 0, "imr"), "register 9"),
    ],
)
def test_malformed_messagepack_attestation_is_refused(packed: bytes, bend: Callable[[Any], None], why: str) -> None:
    source = msgpack.unpackb(packed)
    bend(source)
    with pytest.raises(FailedError, match=why):
        Attestation.parse(msgpack.packb(source))


def test_messagepack_attestation_with_a_duplicate_member_is_refused() -> None:
    twice = b"\x82" + 2 * (msgpack.packb("version") + msgpack.packb(1))
    with pytest.raises(FailedError, match="two members"):
        Attestation.parse(twice)


@pytest.mark.parametrize(
    "longer", [b"\x01\x00", b"\xfd\x00", b"\x02\x00\x00\x00", b"\xfe\xff\x00\x00", b"\x03", b"\x01", b"\x02\0\0"]
)
def test_scale_length_in_a_non_canonical_encoding_is_refused(longer: bytes) -> None:
    # The length of the quote, which is the first: 0, 63, 0 and 16383 in more bytes than it takes, and none at all.
    with pytest.raises(FailedError, match="length that is|ends too early"):  # noqa: RUF043
        Attestation.parse(b"\0\0" + longer + bytes(0 if len(longer) == 1 else 20000 if longer[0] == 0xFE else 64))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_attestation_of_random_bytes_is_refused(data: bytes) -> None:
    for each in (data, b"\0\0" + data, b"\x83" + data):
        with pytest.raises(FailedError):
            Attestation.parse(each)
