"""`measurement.tdx.cbor` of a dstack OS image: what the image adds to the registers of any TD that boots it.

Its SHA-256 is in the image's `sha256sum.txt`, whose SHA-256 is the image's hash. Format of version 3:

    {"version": 3,
     "image": {"cmdline_sha384", "kernel_authenticode", "initrd_sha384"},
     "tdvf": {"ovmf": text, "mrtd": {"single_pass", "two_pass"}, "td_hob": bytes}}

The digests are byte strings of 48 bytes. The parser supports the part of CBOR (RFC 8949) that this needs: maps with
text keys, unsigned integers, byte and text strings, all of definite length.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import REGISTER_BYTES
from attest_web.verify.primitives.untrusted_json import JsonObject, base64_bytes, text

FILE_NAME = "measurement.tdx.cbor"
OVMF_PRE_202505 = "pre202505"
"""The only layout of the firmware's events that dstack has so far."""

_VERSION = 3
_WHAT = f"{FILE_NAME} in vm_config"
_UNSIGNED, _BYTES, _TEXT, _MAP = 0, 2, 3, 5
_MAX_DEPTH = 4


@dataclass(frozen=True)
class MeasurementDocument:
    """What an OS image adds to the registers.

    Attributes:
        kernel: Authenticode SHA-384 of the kernel as QEMU patches it for guests with enough memory, 48 bytes.
        command_line: SHA-384 of the kernel's command line, 48 bytes.
        initrd: SHA-384 of the initrd, 48 bytes.
        ovmf: The layout of the firmware's events.
        mrtd_single_pass: MRTD where QEMU adds and measures each page in one pass, 48 bytes.
        mrtd_two_pass: MRTD where it adds all pages first, 48 bytes.
        td_hob: The memory ranges that the firmware accepts, for the TD's hand-off block; see `os_image`.
    """

    kernel: bytes
    command_line: bytes
    initrd: bytes
    ovmf: str
    mrtd_single_pass: bytes
    mrtd_two_pass: bytes
    td_hob: bytes

    @classmethod
    def of_image(cls, source: JsonObject, os_image_hash: bytes) -> "MeasurementDocument":
        """Parse the document that belongs to an image.

        Args:
            source: `tdx_measurement` of a `vm_config`: `checksum_file` and `measurement`, in base64.
            os_image_hash: The image's hash, 32 bytes.

        Raises:
            FailedError: It is malformed, or belongs to another image.
        """
        checksums = _base64(source, "checksum_file")
        if hashlib.sha256(checksums).digest() != os_image_hash:
            raise FailedError("sha256sum.txt in vm_config belongs to another image")
        measurement = _base64(source, "measurement")
        if _listed_digest(checksums) != hashlib.sha256(measurement).hexdigest():
            raise FailedError(f"{FILE_NAME} in vm_config is not the one that sha256sum.txt lists")
        return cls.parse(measurement)

    @classmethod
    def parse(cls, data: bytes) -> "MeasurementDocument":
        """Parse a document.

        Raises:
            FailedError: It is malformed, or of another version.
        """
        document = _exactly(_read_all(data), "version", "image", "tdvf")
        if document["version"] != _VERSION:
            raise FailedError(f"{_WHAT} is of version {document['version']!r}, not {_VERSION}")
        image = _exactly(document["image"], "cmdline_sha384", "kernel_authenticode", "initrd_sha384")
        tdvf = _exactly(document["tdvf"], "ovmf", "mrtd", "td_hob")
        mrtd = _exactly(tdvf["mrtd"], "single_pass", "two_pass")
        if not isinstance(tdvf["ovmf"], str) or not isinstance(tdvf["td_hob"], bytes):
            raise FailedError(f"{_WHAT} has members of other types than dstack's")
        return cls(
            kernel=_digest(image["kernel_authenticode"]),
            command_line=_digest(image["cmdline_sha384"]),
            initrd=_digest(image["initrd_sha384"]),
            ovmf=tdvf["ovmf"],
            mrtd_single_pass=_digest(mrtd["single_pass"]),
            mrtd_two_pass=_digest(mrtd["two_pass"]),
            td_hob=tdvf["td_hob"],
        )


def _base64(source: JsonObject, name: str) -> bytes:
    return base64_bytes(text(source, name, "tdx_measurement"), f"{name!r} of tdx_measurement")


def _listed_digest(checksums: bytes) -> str:
    lines = [line.split() for line in checksums.decode(errors="replace").splitlines()]
    listed = [line[0] for line in lines if len(line) == 2 and line[1] == FILE_NAME]
    if len(listed) != 1:
        raise FailedError(f"sha256sum.txt in vm_config lists {FILE_NAME} {len(listed)} times instead of once")
    return listed[0].lower()


def _exactly(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise FailedError(f"{_WHAT} has other members than dstack's ({', '.join(names)})")
    return value


def _digest(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) != REGISTER_BYTES:
        raise FailedError(f"a digest in {_WHAT} is not {REGISTER_BYTES} bytes")
    return value


def _read_all(data: bytes) -> Any:
    value, rest = _read(data, 0)
    if rest:
        raise FailedError(f"{_WHAT} has {len(rest)} bytes too many")
    return value


def _read(data: bytes, depth: int) -> tuple[Any, bytes]:
    major, length, data = _head(data)
    if major == _UNSIGNED:
        return length, data
    if major in (_BYTES, _TEXT):
        if length > len(data):
            raise FailedError(f"{_WHAT} ends too early")
        content = data[:length]
        try:
            return content if major == _BYTES else content.decode(), data[length:]
        except UnicodeDecodeError:
            raise FailedError(f"{_WHAT} has a text that is not UTF-8") from None
    if major != _MAP or depth == _MAX_DEPTH:
        raise FailedError(f"{_WHAT} has CBOR of a kind that dstack does not put there")
    members: dict[Any, Any] = {}
    for _ in range(length):  # each takes at least one byte, so the input bounds the loop
        name, data = _read(data, _MAX_DEPTH)
        value, data = _read(data, depth + 1)
        if name in members:
            raise FailedError(f"{_WHAT} has {name!r} twice")
        members[name] = value
    return members, data


def _head(data: bytes) -> tuple[int, int, bytes]:
    """Major type, argument and the rest of the data (RFC 8949, 3)."""
    if not data:
        raise FailedError(f"{_WHAT} ends too early")
    major, short = data[0] >> 5, data[0] & 0x1F
    if short < 24:
        return major, short, data[1:]
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(short)
    if size is None or len(data) < 1 + size:
        raise FailedError(f"{_WHAT} has a length that is not definite")
    return major, int.from_bytes(data[1 : 1 + size], "big"), data[1 + size :]
