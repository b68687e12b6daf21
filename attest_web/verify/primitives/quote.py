"""Parses a TDX quote's header and body (Intel TDX DCAP Quoting Library API, A.3, versions 4 and 5).

Parsing does not prove the quote's origin; `collateral.py` checks that. A quote of version 4 has the body of TDX 1.0,
also on TDX 1.5. In a quote of version 5, a descriptor says which body follows; that of TDX 1.5 has two more fields at
its end.
"""

import struct
from dataclasses import dataclass

from attest_web.verify.primitives.checks import FailedError

HEADER_BYTES = 48
BODY_BYTES = 584
"""Size of the body of TDX 1.0."""

REGISTER_BYTES = 48
"""Size in bytes of MRTD and of an RTMR, which are SHA-384, and of MRCONFIGID, MROWNER and MROWNERCONFIG."""

TEE_TYPE_TDX = 0x81
_ECDSA_P256 = 2
_DEBUG_BIT = 0x01

_DESCRIPTOR = struct.Struct("<HI")
"""Type and size of the body, in a quote of version 5."""

_SIGNATURE_BYTES = struct.Struct("<I")
"""The length field of the signature data, which follow the body."""

_BODY_1_5_BYTES = BODY_BYTES + 16 + REGISTER_BYTES
_BODY_SIZES = {2: BODY_BYTES, 3: _BODY_1_5_BYTES}
"""Sizes of TD bodies by their type: TDX 1.0 and 1.5."""

USUAL_ATTRIBUTES = bytes.fromhex("0000001000000000")
"""Attributes of a TD that dstack starts: SEPT_VE_DISABLE and nothing else."""

# Offsets in the body.
_TD_ATTRIBUTES = 120
_MRTD = 136
_MRCONFIGID = 184
_MROWNER = 232
_MROWNERCONFIG = 280
_RTMR0 = 328
_REPORT_DATA = 520
_MRSERVICETD = BODY_BYTES + 16


@dataclass(frozen=True)
class TdxQuote:
    """What a quote states about a trust domain (TD).

    Attributes:
        report_data: 64 bytes, chosen by the TD.
        td_attributes: 8 bytes; the first one is zero unless the TD can be debugged.
        mrtd: 48 bytes, the measurement of the TD's initial memory.
        rtmrs: RTMR0 to RTMR3, 48 bytes each, the measurements that were extended at run time.
        mr_config_id: 48 bytes that the host chose when it made the TD, to be compared with its configuration.
        mr_owner: 48 bytes, likewise. dstack leaves them zero.
        mr_owner_config: 48 bytes, likewise. dstack leaves them zero.
        mr_service_td: 48 bytes, the measurement of service TDs that are bound to this one; zero without any, and in
            bodies that have no such field.
    """

    report_data: bytes
    td_attributes: bytes
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mr_config_id: bytes = bytes(REGISTER_BYTES)
    mr_owner: bytes = bytes(REGISTER_BYTES)
    mr_owner_config: bytes = bytes(REGISTER_BYTES)
    mr_service_td: bytes = bytes(REGISTER_BYTES)

    @classmethod
    def parse(cls, quote: bytes) -> "TdxQuote":
        """Read a quote.

        Raises:
            FailedError: It is too short, of another version, not of a TD (an SGX enclave has other offsets), or it is
                followed by bytes that are not zero.
        """
        body = _body(quote)

        def register(offset: int) -> bytes:
            return body[offset : offset + REGISTER_BYTES]

        return cls(
            report_data=body[_REPORT_DATA:BODY_BYTES],
            td_attributes=body[_TD_ATTRIBUTES : _TD_ATTRIBUTES + 8],
            mrtd=register(_MRTD),
            rtmrs=(
                register(_RTMR0),
                register(_RTMR0 + REGISTER_BYTES),
                register(_RTMR0 + 2 * REGISTER_BYTES),
                register(_RTMR0 + 3 * REGISTER_BYTES),
            ),
            mr_config_id=register(_MRCONFIGID),
            mr_owner=register(_MROWNER),
            mr_owner_config=register(_MROWNERCONFIG),
            mr_service_td=register(_MRSERVICETD) if len(body) == _BODY_1_5_BYTES else bytes(REGISTER_BYTES),
        )

    @property
    def has_usual_attributes(self) -> bool:
        """Whether its attributes are those of the TDs that dstack starts."""
        return self.td_attributes == USUAL_ATTRIBUTES


def _body(quote: bytes) -> bytes:
    if len(quote) < HEADER_BYTES + BODY_BYTES:
        raise FailedError(f"the quote is {len(quote)} bytes long, too short for a TDX quote")
    version, key_type, tee_type = struct.unpack_from("<HHI", quote)
    if version not in (4, 5) or key_type != _ECDSA_P256 or tee_type != TEE_TYPE_TDX:
        raise FailedError(
            "not a TDX quote of version 4 or 5 signed with ECDSA P-256"
            f" (version {version}, key type {key_type}, TEE type {tee_type:#x})"
        )
    if version == 4:
        _check_padding(quote, HEADER_BYTES + BODY_BYTES)
        return quote[HEADER_BYTES : HEADER_BYTES + BODY_BYTES]
    body_type, size = _DESCRIPTOR.unpack_from(quote, HEADER_BYTES)
    start = HEADER_BYTES + _DESCRIPTOR.size
    if _BODY_SIZES.get(body_type) != size or len(quote) < start + size:
        raise FailedError(f"the quote has no whole TD body of a known type (type {body_type}, {size} bytes)")
    _check_padding(quote, start + size)
    return quote[start : start + size]


def _check_padding(quote: bytes, body_end: int) -> None:
    """Check the bytes after the signature data: they are not signed, so only zeros are accepted as padding."""
    if len(quote) < body_end + _SIGNATURE_BYTES.size:
        return  # truncated: the signature check fails
    (size,) = _SIGNATURE_BYTES.unpack_from(quote, body_end)
    padding = quote[body_end + _SIGNATURE_BYTES.size + size :]
    if any(padding):
        raise FailedError(f"the quote has {len(padding)} bytes after its end that are not all zero")


def check_debug_off(quote: TdxQuote) -> str:
    """Check that the TD cannot be debugged; return what was found.

    Bit 0 of the attributes is DEBUG, and all of bits 0 to 7 make a TD untrusted (Intel TDX Module ABI, "ATTRIBUTES").

    Raises:
        FailedError: One of these bits is set.
    """
    untrusted = quote.td_attributes[0]
    if untrusted & _DEBUG_BIT:
        raise FailedError("the TD runs in debug mode: its host can read and change its memory")
    if untrusted:
        raise FailedError(f"the TD's attributes say that it is not to be trusted (bits 0 to 7 are {untrusted:#04x})")
    return f"off (attributes {quote.td_attributes.hex()})"


def check_owner_unset(quote: TdxQuote) -> str:
    """Check that the fields which dstack leaves unset are unset; return what was found.

    Raises:
        FailedError: The host has set MROWNER or MROWNERCONFIG, or has bound a service TD, which may migrate the TD.
    """
    for name, value in (
        ("MROWNER", quote.mr_owner),
        ("MROWNERCONFIG", quote.mr_owner_config),
        ("MRSERVICETD", quote.mr_service_td),
    ):
        if any(value):
            raise FailedError(f"{name} is {value.hex()}; dstack sets none")
    return "MROWNER, MROWNERCONFIG and MRSERVICETD are unset, as in all TDs of dstack's"
