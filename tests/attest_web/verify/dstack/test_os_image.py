"""One hash that stands for an OS image: it gives the registers of a real guest, and of no other."""

import contextlib
import hashlib
import json
import struct
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.dstack.event_log import parse_event_log
from attest_web.verify.dstack.os_image import check_os_image, expected_registers, td_hob_digest
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.minting import DSTACK_VECTORS, FIRMWARE_EVENTS, OS_IMAGE_HASH, VM_CONFIG, registers

REAL = DSTACK_VECTORS["real_quotes"]["tdx-lite-getquote.json"]["response"]
QUOTE = TdxQuote.parse(bytes.fromhex(REAL["quote"]))
CONFIG: dict[str, Any] = json.loads(VM_CONFIG)
CBOR = b64decode(CONFIG["tdx_measurement"]["measurement"])
GIB = 1 << 30
WITNESS = bytes.fromhex("80100904000609020b021010")
"""`td_hob` of the real image: page 2048 on, the block at 9 pages from there, and four accepted ranges."""


def check(config: dict[str, Any] = CONFIG, events: list[dict[str, Any]] = FIRMWARE_EVENTS, *images: bytes) -> str:
    return check_os_image(QUOTE, parse_event_log(events), config, images or {OS_IMAGE_HASH})


def acpi(name: str, **bent: Any) -> list[dict[str, Any]]:
    return [event | bent if event["event"] == name else event for event in FIRMWARE_EVENTS]


def without(name: str) -> list[dict[str, Any]]:
    return [event for event in FIRMWARE_EVENTS if event["event"] != name]


def with_image(measurement: bytes) -> tuple[dict[str, Any], bytes]:
    """`vm_config` with another measurement document, and the hash of the image that has it."""
    checksums = f"{hashlib.sha256(measurement).hexdigest()}  measurement.tdx.cbor\n".encode()
    material = {"checksum_file": checksums, "measurement": measurement}
    encoded = {name: b64encode(content).decode() for name, content in material.items()}
    image = hashlib.sha256(checksums).digest()
    return CONFIG | {"os_image_hash": image.hex(), "tdx_measurement": encoded}, image


def test_os_image_hash_gives_all_four_registers_of_a_real_guest() -> None:
    assert "gives MRTD and RTMR0 to RTMR2" in check()
    found = expected_registers(OS_IMAGE_HASH, parse_event_log(FIRMWARE_EVENTS), CONFIG)
    assert found.mrtd == QUOTE.mrtd
    assert found.rtmrs == QUOTE.rtmrs[:3]
    assert list(found.rtmrs) == registers(FIRMWARE_EVENTS)[:3]
    check(CONFIG, FIRMWARE_EVENTS, b"\7" * 32, OS_IMAGE_HASH)


def test_os_image_check_reads_only_the_acpi_events_of_the_log() -> None:
    check(events=[event for event in FIRMWARE_EVENTS if event["event"]])


@pytest.mark.parametrize("name", ["acpi-loader", "acpi-rsdp", "acpi-tables"])
def test_acpi_event_missing_repeated_or_malformed_is_refused(name: str) -> None:
    (event,) = (event for event in FIRMWARE_EVENTS if event["event"] == name)
    for events in (
        without(name),
        [*FIRMWARE_EVENTS, event],
        [*FIRMWARE_EVENTS, event | {"event": "acpi-other"}],
        acpi(name, event="acpi-other"),
        acpi(name, event=""),
        acpi(name, event="acpi-loader" if name != "acpi-loader" else "acpi-rsdp"),
        acpi(name, event_type=4),
        acpi(name, event_payload=""),
        acpi(name, imr=1),
    ):
        with pytest.raises(FailedError, match="exactly one each"):
            check(events=events)


@pytest.mark.parametrize("name", ["acpi-loader", "acpi-rsdp", "acpi-tables"])
def test_acpi_tables_other_than_measured_give_another_rtmr0(name: str) -> None:
    with pytest.raises(FailedError, match="another RTMR0 than the quote has"):
        check(events=acpi(name, digest="07" * 48))


def test_acpi_events_with_swapped_names_give_another_rtmr0() -> None:
    swap = {"acpi-loader": "acpi-rsdp", "acpi-rsdp": "acpi-loader"}
    events = [event | {"event": swap.get(event["event"], event["event"])} for event in FIRMWARE_EVENTS]
    with pytest.raises(FailedError, match="another RTMR0"):
        check(events=events)


@pytest.mark.parametrize("memory", [3 * GIB, 11 * GIB // 4, 64 * GIB, 1 << 52])
def test_memory_size_other_than_the_guests_gives_another_rtmr0(memory: int) -> None:
    with pytest.raises(FailedError, match="gives another RTMR0 than"):
        check(CONFIG | {"memory_size": memory})


@pytest.mark.parametrize(
    "memory", [5 * GIB // 2, 0, -1, GIB, 2 * GIB - 1, 2 * GIB + 1, 11 * GIB // 4 - 1, (1 << 52) + 1, 10**400]
)
def test_with_some_memory_sizes_the_image_check_is_not_made(memory: int) -> None:
    with pytest.raises(NotMadeError, match=r"--expect-mrtd and --expect-rtmr0 to --expect-rtmr2"):
        check(CONFIG | {"memory_size": memory})


@pytest.mark.parametrize("memory", [None, "2147483648", 2147483648.0, True])
def test_memory_size_that_is_no_integer_is_refused(memory: object) -> None:
    with pytest.raises(FailedError, match="memory_size"):
        check(CONFIG | {"memory_size": memory})


def test_os_image_other_than_the_expected_one_is_refused() -> None:
    with pytest.raises(FailedError, match="not the expected one"):
        check(CONFIG, FIRMWARE_EVENTS, b"\7" * 32)
    with pytest.raises(FailedError, match="not the expected one"):
        check(CONFIG | {"os_image_hash": "07" * 32})
    with pytest.raises(FailedError, match="belongs to another image"):
        check(CONFIG | {"os_image_hash": "07" * 32}, FIRMWARE_EVENTS, b"\7" * 32)


@pytest.mark.parametrize("value", [None, "", "07", 5, "zz" * 32])
def test_malformed_os_image_hash_is_refused(value: object) -> None:
    with pytest.raises(FailedError, match="os_image_hash"):
        check(CONFIG | {"os_image_hash": value})


def test_checksums_of_another_image_are_refused() -> None:
    other = with_image(CBOR + b"\0")[0]["tdx_measurement"]
    material = CONFIG["tdx_measurement"]
    for bent in (other, material | {"checksum_file": other["checksum_file"]}):
        with pytest.raises(FailedError, match="belongs to another image"):
            check(CONFIG | {"tdx_measurement": bent})
    with pytest.raises(FailedError, match="not the one that"):
        check(CONFIG | {"tdx_measurement": material | {"measurement": other["measurement"]}})


@settings(deadline=None)
@given(st.integers(0, len(CBOR) - 1), st.integers(1, 255))
def test_measurement_document_with_a_changed_byte_is_refused(place: int, change: int) -> None:
    bent = bytearray(CBOR)
    bent[place] ^= change
    with pytest.raises(FailedError):
        check(CONFIG | {"tdx_measurement": CONFIG["tdx_measurement"] | {"measurement": b64encode(bent).decode()}})


UNUSED = range(CBOR.index(b"single_pass") + 13, CBOR.index(b"single_pass") + 61)
"""Where the document has MRTD for the other way of adding pages."""


@settings(deadline=None)
@given(st.integers(0, len(CBOR) - 1), st.integers(1, 255))
def test_os_image_with_a_changed_measurement_gives_other_registers(place: int, change: int) -> None:
    bent = bytearray(CBOR)
    bent[place] ^= change
    config, image = with_image(bytes(bent))
    if place in UNUSED:
        check(config, FIRMWARE_EVENTS, image)
    else:
        with pytest.raises(FailedError):
            check(config, FIRMWARE_EVENTS, image)


@pytest.mark.parametrize("name", ["MRTD", "RTMR0", "RTMR1", "RTMR2"])
def test_a_quote_with_another_register_is_refused(name: str) -> None:
    offset = {"MRTD": 184, "RTMR0": 376, "RTMR1": 424, "RTMR2": 472}[name]
    bent = bytearray.fromhex(REAL["quote"])
    bent[offset] ^= 1
    with pytest.raises(FailedError, match=f"gives another {name} than the quote has"):
        check_os_image(TdxQuote.parse(bytes(bent)), parse_event_log(FIRMWARE_EVENTS), CONFIG, {OS_IMAGE_HASH})


@pytest.mark.parametrize("variant", ["legacy", "other", None, 5, ...])
def test_os_image_of_another_attestation_variant_is_not_checked(variant: object) -> None:
    config = CONFIG | {"tdx_attestation_variant": variant}
    if variant is ...:
        del config["tdx_attestation_variant"]
    with pytest.raises(NotMadeError, match="dstack-verifier"):
        check(config)


@pytest.mark.parametrize("variant", ["pre202506", "", None, 5])
def test_ovmf_variant_that_differs_from_the_images_is_refused(variant: object) -> None:
    with pytest.raises(FailedError, match="the firmware's variant"):
        check(CONFIG | {"ovmf_variant": variant})
    silent = {name: value for name, value in CONFIG.items() if name != "ovmf_variant"}
    check(silent)


def test_os_image_with_unknown_firmware_is_refused() -> None:
    config, image = with_image(CBOR.replace(b"pre202505", b"pre202506"))
    for named in ("pre202506", "pre202505"):
        with pytest.raises(FailedError, match="the firmware's variant"):
            check(config | {"ovmf_variant": named}, FIRMWARE_EVENTS, image)


@pytest.mark.parametrize("material", [None, [], "x", {}])
def test_vm_config_without_the_measurement_document_is_refused(material: object) -> None:
    with pytest.raises(FailedError, match="measure|checksum_file"):  # noqa: RUF043
        check(CONFIG | {"tdx_measurement": material})


@pytest.mark.parametrize(
    ("qemu", "two_passes"),
    [
        ({"qemu_version": "8.0.0"}, True),
        ({"qemu_version": "8.99.99"}, True),
        ({"qemu_version": "9.0.0"}, False),
        ({"qemu_version": "10.1.0"}, False),
        ({"qemu_version": None}, False),
        ({"qemu_single_pass_add_pages": True, "qemu_version": "9.0.0"}, True),
        ({"qemu_single_pass_add_pages": False, "qemu_version": "8.2.2"}, False),
    ],
)
def test_qemu_page_adding_mode_decides_which_mrtd_is_expected(qemu: dict[str, Any], two_passes: bool) -> None:
    if two_passes:  # as the real guest's did
        check(CONFIG | qemu)
    else:
        with pytest.raises(FailedError, match="gives another MRTD than"):
            check(CONFIG | qemu)


@pytest.mark.parametrize(
    "qemu",
    [
        {"qemu_version": "8"},
        {"qemu_version": "8.2"},
        {"qemu_version": "8.2.2.1"},
        {"qemu_version": "8.2.x"},
        {"qemu_version": "8.2.\u00b2"},
        {"qemu_version": "8.2.\u0662"},
        {"qemu_version": "8.2.-2"},
        {"qemu_version": "7.2.0"},
        {"qemu_version": "0.0.0"},
        {"qemu_version": 8},
        {"qemu_single_pass_add_pages": "true"},
        {"qemu_single_pass_add_pages": 1},
    ],
    ids=str,
)
def test_unsupported_or_malformed_qemu_version_is_refused(qemu: dict[str, Any]) -> None:
    with pytest.raises(FailedError, match=r"(?i)qemu"):
        check(CONFIG | qemu)


def hob(memory: list[tuple[int, int, int]], end: int) -> bytes:
    """A hand-off block: its header, and resources by kind, start and length."""
    made = struct.pack("<HHIIIQQQQQ", 1, 56, 0, 9, 0, 0, 0, 0, 0, end)
    for kind, start, length in memory:
        made += struct.pack("<HHI", 3, 48, 0) + bytes(16) + struct.pack("<IIQQ", kind, 7, start, length)
    return hashlib.sha384(made).digest()


def test_td_hob_digest_of_a_real_guest_matches_its_event() -> None:
    assert CBOR.endswith(b"td_hob\x4c" + WITNESS)
    first = next(event for event in FIRMWARE_EVENTS if event["event_type"] == 0x8000000B)
    assert td_hob_digest(WITNESS, 2 * GIB).hex() == first["digest"]


def test_td_hob_digest_matches_a_hand_built_block() -> None:
    # From page 16 on: the block at page 16 + 3, one accepted range of two pages at page 16 + 5.
    end = 0x13000 + 56 + 3 * 48 + 8
    two_gib = [(7, 0, 0x15000), (0, 0x15000, 0x2000), (7, 0x17000, 2 * GIB - 0x17000)]
    assert td_hob_digest(bytes([16, 3, 1, 5, 2]), 2 * GIB) == hob(two_gib, end)
    # With more, memory goes on behind the hole below 4 GiB.
    more = [*two_gib, (7, 4 * GIB, GIB)]
    assert td_hob_digest(bytes([16, 3, 1, 5, 2]), 3 * GIB) == hob(more, end + 48)


def test_td_hob_accepted_ranges_are_merged_and_sorted() -> None:
    end = 0x13000 + 56 + 4 * 48 + 8
    overlapping = [(7, 0, 0x15000), (0, 0x15000, 0x2000), (0, 0x16000, 0x3000), (7, 0x19000, 2 * GIB - 0x19000)]
    assert td_hob_digest(bytes([16, 3, 2, 5, 2, 6, 3]), 2 * GIB) == hob(overlapping, end)
    apart = [(7, 0, 0x15000), (0, 0x15000, 0x2000), (7, 0x17000, 0x3000), (0, 0x1A000, 0x2000)]
    apart.append((7, 0x1C000, 2 * GIB - 0x1C000))
    for ranges in ([5, 2, 10, 2], [10, 2, 5, 2]):
        assert td_hob_digest(bytes([16, 3, 2, *ranges]), 2 * GIB) == hob(apart, end + 48)
    assert td_hob_digest(bytes([16, 3, 1, 5, 0]), 2 * GIB) == hob([(7, 0, 2 * GIB)], end - 3 * 48)


def test_td_hob_multibyte_varints_are_read() -> None:
    assert td_hob_digest(bytes([0x90, 0x00, 3, 1, 5, 2]), 2 * GIB) == td_hob_digest(bytes([16, 3, 1, 5, 2]), 2 * GIB)
    end = (2048 + 3) * 4096 + 56 + 48 + 8
    assert td_hob_digest(bytes([0x80, 0x10, 3, 0]), 2 * GIB) == hob([(7, 0, 2 * GIB)], end)


@pytest.mark.parametrize(
    "witness",
    [
        b"",
        bytes([16]),
        bytes([16, 3]),
        bytes([16, 3, 1]),
        bytes([16, 3, 1, 5]),
        bytes([16, 3, 1, 5, 2, 7]),
        bytes([16, 3, 0, 5, 2]),
        bytes([16, 3, 2, 5, 2]),
        bytes([16, 3, 1, 5, 0x82]),
        bytes([16, 3, 0, 0x80]),
        bytes([0x90]) + b"\x80" * 9 + bytes([0, 3, 0]),
        bytes([16, 3, 65]) + bytes([1, 1]) * 65,
        b"\xff" * 9 + b"\1" + bytes([3, 0]),
        bytes([16, 3, 1]) + b"\xff" * 8 + b"\x7f" + bytes([2]),
        bytes([16, 3, 1, 5]) + b"\xff" * 8 + b"\x7f",
        b"\xff" * 8 + b"\x7f" + bytes([3, 0]),
        bytes([16]) + b"\xff" * 8 + b"\x7f" + bytes([0]),
    ],
)
def test_malformed_td_hob_is_refused(witness: bytes) -> None:
    with pytest.raises(FailedError, match="the image's td_hob is malformed"):
        td_hob_digest(witness, 2 * GIB)


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


pages = st.integers(0, 1 << 20) | st.integers(0, (1 << 63) - 1)
witnesses = st.builds(
    lambda base, block, ranges: b"".join(
        map(varint, [base, block, len(ranges), *(n for pair in ranges for n in pair)])
    ),
    pages,
    pages,
    st.lists(st.tuples(pages, pages), max_size=5),
)


@settings(deadline=None)
@given(witnesses | st.binary(max_size=40), st.integers(2 * GIB, 64 * GIB))
def test_td_hob_of_any_bytes_raises_no_unexpected_error(witness: bytes, memory: int) -> None:
    with contextlib.suppress(FailedError):
        assert len(td_hob_digest(witness, memory)) == 48


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*CONFIG, "qemu_single_pass_add_pages"]), st.none() | st.integers() | st.text()))
def test_os_image_check_with_any_vm_config_raises_no_unexpected_error(bent: dict[str, Any]) -> None:
    with contextlib.suppress(FailedError, NotMadeError):
        assert "gives MRTD" in check(CONFIG | bent)
