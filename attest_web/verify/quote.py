"""A TDX quote's header and body, read at their offsets (Intel TDX DCAP Quoting Library API, A.3, "Version 4").

Reading says nothing about who made the quote; that is `collateral.py`. The body is that of TDX 1.0, which TDX 1.5
fills as well in a quote of version 4.
"""

import struct
from dataclasses import dataclass

from attest_web.verify.checks import FailedError

HEADER_BYTES = 48
BODY_BYTES = 584
REGISTER_BYTES = 48
"""Size of MRTD and of an RTMR: a SHA-384."""

TEE_TYPE_TDX = 0x81
_VERSION = 4
_ECDSA_P256 = 2
_DEBUG_BIT = 0x01

# Offsets in the body.
_TD_ATTRIBUTES = 120
_MRTD = 136
_RTMR0 = 328
_REPORT_DATA = 520


@dataclass(frozen=True)
class TdxQuote:
    """What a quote says about a trust domain (TD).

    Attributes:
        report_data: 64 bytes, chosen by the TD.
        td_attributes: 8 bytes; the first one is zero unless somebody can look into the TD.
        mrtd: 48 bytes, the measurement of the TD's initial memory.
        rtmrs: RTMR0 to RTMR3, 48 bytes each, the measurements that were extended at run time.
    """

    report_data: bytes
    td_attributes: bytes
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]

    @classmethod
    def parse(cls, quote: bytes) -> "TdxQuote":
        """Read a quote.

        Raises:
            FailedError: It is too short, of another version, or not of a TD (an SGX enclave has other offsets).
        """
        if len(quote) < HEADER_BYTES + BODY_BYTES:
            raise FailedError(f"the quote is {len(quote)} bytes long, too short for a TDX quote")
        version, key_type, tee_type = struct.unpack_from("<HHI", quote)
        if version != _VERSION or key_type != _ECDSA_P256 or tee_type != TEE_TYPE_TDX:
            raise FailedError(
                f"not a TDX quote of version {_VERSION} signed with ECDSA P-256"
                f" (version {version}, key type {key_type}, TEE type {tee_type:#x})"
            )
        body = quote[HEADER_BYTES : HEADER_BYTES + BODY_BYTES]

        def register(offset: int) -> bytes:
            return body[offset : offset + REGISTER_BYTES]

        return cls(
            report_data=body[_REPORT_DATA:],
            td_attributes=body[_TD_ATTRIBUTES : _TD_ATTRIBUTES + 8],
            mrtd=register(_MRTD),
            rtmrs=(
                register(_RTMR0),
                register(_RTMR0 + REGISTER_BYTES),
                register(_RTMR0 + 2 * REGISTER_BYTES),
                register(_RTMR0 + 3 * REGISTER_BYTES),
            ),
        )


def check_debug_off(quote: TdxQuote) -> str:
    """Check that the TD is under nobody's debugger; return what was found.

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
