import contextlib
import hashlib
import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.dstack.measurement_document import FILE_NAME, OVMF_PRE_202505, MeasurementDocument
from attest_web.verify.primitives.checks import FailedError
from tests.attest_web.verify.minting import MRTD, OS_IMAGE_HASH, VM_CONFIG

SOURCE: dict[str, str] = json.loads(VM_CONFIG)["tdx_measurement"]
CBOR = b64decode(SOURCE["measurement"])
IMAGE = {"cmdline_sha384": b"\1" * 48, "kernel_authenticode": b"\2" * 48, "initrd_sha384": b"\3" * 48}
TDVF = {"ovmf": "pre202505", "mrtd": {"single_pass": b"\4" * 48, "two_pass": b"\5" * 48}, "td_hob": b"\6\7"}
WHOLE: dict[str, Any] = {"version": 3, "image": IMAGE, "tdvf": TDVF}


def cbor(value: Any) -> bytes:
    """CBOR of maps, texts, byte strings and small numbers (RFC 8949, 3)."""

    def head(major: int, argument: int) -> bytes:
        if argument < 24:
            return bytes([major << 5 | argument])
        return bytes([major << 5 | 24, argument])

    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(name) + cbor(member) for name, member in value.items())
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    assert isinstance(value, int)
    return head(0, value)


def of_image(checksums: bytes, measurement: bytes = CBOR, os_image_hash: bytes | None = None) -> MeasurementDocument:
    source = {"checksum_file": b64encode(checksums).decode(), "measurement": b64encode(measurement).decode()}
    return MeasurementDocument.of_image(source, os_image_hash or hashlib.sha256(checksums).digest())


def line(measurement: bytes = CBOR, name: str = FILE_NAME) -> bytes:
    return f"{hashlib.sha256(measurement).hexdigest()}  {name}\n".encode()


def test_measurement_document_of_a_real_image_is_read() -> None:
    found = MeasurementDocument.of_image(SOURCE, OS_IMAGE_HASH)
    assert found.mrtd_two_pass == MRTD
    assert found.mrtd_single_pass != MRTD
    assert found.ovmf == OVMF_PRE_202505
    assert {len(found.kernel), len(found.command_line), len(found.initrd)} == {48}


def test_measurement_document_members_are_read_by_name() -> None:
    found = MeasurementDocument.parse(cbor(WHOLE))
    assert found == MeasurementDocument(
        command_line=b"\1" * 48,
        kernel=b"\2" * 48,
        initrd=b"\3" * 48,
        ovmf="pre202505",
        mrtd_single_pass=b"\4" * 48,
        mrtd_two_pass=b"\5" * 48,
        td_hob=b"\6\7",
    )
    reversed_members = dict(reversed(WHOLE.items()))
    assert MeasurementDocument.parse(cbor(reversed_members)) == found


def test_measurement_document_is_found_among_other_checksums() -> None:
    others = line(b"kernel", "bzImage") + b"word\n\n" + line(b"x", "measurement.snp.cbor")
    assert of_image(others + line() + others) == MeasurementDocument.parse(CBOR)
    assert of_image(
        (others + line()).replace(b"\n", b"\r\n").upper().replace(FILE_NAME.upper().encode(), FILE_NAME.encode())
    )


@pytest.mark.parametrize(
    "checksums",
    [
        b"",
        line(name="measurement.snp.cbor"),
        line(name=f"./{FILE_NAME}"),
        line(name=f"x {FILE_NAME}"),
        line() + line(),
        line() + line(b"another"),
        line(b"another"),
        line()[:-1] + b" more\n",
        line()[1:],
        b"\xff" + line(),
    ],
)
def test_checksums_without_exactly_one_valid_entry_are_refused(checksums: bytes) -> None:
    with pytest.raises(FailedError, match=FILE_NAME):
        of_image(checksums)


def test_measurement_document_of_another_image_is_refused() -> None:
    for other in (b"\7" * 32, hashlib.sha256(CBOR).digest(), OS_IMAGE_HASH[:31]):
        with pytest.raises(FailedError, match="belongs to another image"):
            of_image(line(), os_image_hash=other)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"checksum_file": SOURCE["checksum_file"]},
        {"measurement": SOURCE["measurement"]},
        SOURCE | {"checksum_file": 5},
        SOURCE | {"checksum_file": "!"},
        SOURCE | {"checksum_file": "\u00e9"},
        SOURCE | {"measurement": SOURCE["measurement"][:-1]},
        SOURCE | {"measurement": SOURCE["measurement"] + "\n"},
        SOURCE | {"measurement": None},
    ],
)
def test_measurement_source_that_is_malformed_is_refused(source: dict[str, object]) -> None:
    with pytest.raises(FailedError):
        MeasurementDocument.of_image(source, OS_IMAGE_HASH)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        cbor(WHOLE)[:-1],
        cbor(WHOLE) + b"\0",
        cbor("version"),
        cbor(WHOLE | {"version": 2}),
        cbor(WHOLE | {"version": "3"}),
        cbor(WHOLE | {"more": 1}),
        cbor({"version": 3, "image": IMAGE}),
        cbor(WHOLE | {"image": 5}),
        cbor(WHOLE | {"image": {**IMAGE, "more": b""}}),
        cbor(WHOLE | {"image": IMAGE | {"initrd_sha384": b"\3" * 47}}),
        cbor(WHOLE | {"image": IMAGE | {"initrd_sha384": "3" * 48}}),
        cbor(WHOLE | {"tdvf": TDVF | {"ovmf": b"pre202505"}}),
        cbor(WHOLE | {"tdvf": TDVF | {"td_hob": "x"}}),
        cbor(WHOLE | {"tdvf": TDVF | {"mrtd": {"single_pass": b"\4" * 48}}}),
        cbor(WHOLE | {"tdvf": TDVF | {"mrtd": {"single_pass": {"a": {"b": 1}}, "two_pass": b""}}}),
        b"\xa4" + cbor(WHOLE)[1:] + cbor("version") + cbor(3),  # a member twice
        b"\xbf" + cbor(WHOLE)[1:] + b"\xff",  # of indefinite length
        b"\xc0" + cbor(WHOLE),  # a tag
        b"\x83\1\2\3",  # an array
        b"\x83" + cbor(WHOLE)[1:],
        b"\xc3" + cbor(WHOLE)[1:],
        b"\xe3" + cbor(WHOLE)[1:],
        b"\xf6",
        b"\x20",
        b"\xfb" + bytes(8),
        b"\xbb" + b"\xff" * 8,  # 2**64 - 1 members
        b"\x5b" + b"\xff" * 8,
        b"\x1c",
        b"\xa1" * 100_000,
        b"\xa1\x61\xff\0",
        b"\xa1\xa0\0",  # a map as a name
        b"\xa1\x40\0",
    ],
)
def test_malformed_measurement_document_is_refused(document: bytes) -> None:
    with pytest.raises(FailedError, match=FILE_NAME):
        MeasurementDocument.parse(document)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_measurement_document_of_random_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(FailedError):
        MeasurementDocument.parse(data)


@settings(deadline=None)
@given(st.integers(0, len(CBOR) - 1), st.integers(1, 255))
def test_measurement_document_with_a_changed_byte_is_refused(place: int, change: int) -> None:
    bent = bytearray(CBOR)
    bent[place] ^= change
    with pytest.raises(FailedError, match="not the one that"):
        of_image(line(), bytes(bent))
    with contextlib.suppress(FailedError):  # on its own it may be a document, but not this one
        assert MeasurementDocument.parse(bytes(bent)) != MeasurementDocument.parse(CBOR)
