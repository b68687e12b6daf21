"""A TDX platform that exists in this process alone, with a quoting enclave to sign its quotes (version 4).

Layouts: "Intel TDX DCAP Quote Generation Library and Quote Verification Library API", appendix 3. Integers are
little-endian. dcap-qvl accepts these quotes because it is told to trust this platform's root; nothing in them says
anything about any machine.

dcap-qvl rejects a quote in which a byte was changed, with the exceptions that `unread_bytes` finds.
"""

import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from scripts.tee_simulator.collateral import (
    QE_ATTRIBUTES,
    QE_ISV_PROD_ID,
    QE_ISV_SVN,
    QE_MISCSELECT,
    QE_MRSIGNER,
    TEE_TCB_SVN,
)
from scripts.tee_simulator.pki import CPU_SVN, SimulatedPki, raw_public_key, sign_raw

QUOTE_VERSION = 4
ATTESTATION_KEY_ECDSA_P256 = 2
TEE_TYPE_TDX = 0x81
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_REPORT_CERTIFICATION_DATA = 6
PCK_CERTIFICATE_CHAIN = 5

TD_ATTRIBUTE_DEBUG = 1 << 0
TD_ATTRIBUTE_SEPT_VE_DISABLE = 1 << 28
XFAM = bytes.fromhex("e702060000000000")

REPORT_DATA_SIZE = 64
SIGNED_SIZE = 48 + 584
"""Bytes of a quote that its signature is over: header and TD report body."""


@dataclass(frozen=True)
class TdMeasurements:
    """What is measured of a trust domain.

    Attributes:
        mrtd: Measurement of the TD's initial memory, 48 bytes.
        rtmrs: The four runtime measurement registers, 48 bytes each.
        mr_config_id: 48 bytes that the TD's owner chose.
        debug: Whether its DEBUG attribute is set: the host could read all of it.
    """

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mr_config_id: bytes = bytes(48)
    debug: bool = False


@dataclass(frozen=True)
class SimulatedPlatform:
    """A TDX platform with its PKI and its quoting enclave.

    Attributes:
        pki: The certificates that its quotes verify against.
    """

    pki: SimulatedPki = field(default_factory=SimulatedPki)
    _attestation_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    _qe_auth_data: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _qe_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def quote(self, measured: TdMeasurements, report_data: bytes) -> bytes:
        """Mint a quote.

        Args:
            measured: The trust domain.
            report_data: What it wants to have said in its name, 64 bytes.

        Raises:
            ValueError: The report data has another length.
        """
        signed = self._header() + td_report(measured, report_data)
        signature = sign_raw(self._attestation_key, signed) + raw_public_key(self._attestation_key)
        signature += _certification_data(QE_REPORT_CERTIFICATION_DATA, self._qe_report_certification())
        return signed + len(signature).to_bytes(4, "little") + signature

    def _header(self) -> bytes:
        return (
            QUOTE_VERSION.to_bytes(2, "little")
            + ATTESTATION_KEY_ECDSA_P256.to_bytes(2, "little")
            + TEE_TYPE_TDX.to_bytes(4, "little")
            + bytes(4)
            + INTEL_QE_VENDOR_ID
            + self._qe_id.ljust(20, b"\0")
        )

    def _qe_report_certification(self) -> bytes:
        report = self._qe_report()
        auth_data = len(self._qe_auth_data).to_bytes(2, "little") + self._qe_auth_data
        # Intel's chains go on with the root. A verifier has the root already and reads no byte of this copy, so anybody
        # could change it: here it is left out, and so is the last line end.
        chain = (self.pki.pck.pem + self.pki.platform_ca.pem).rstrip("\n").encode()
        certified = _certification_data(PCK_CERTIFICATE_CHAIN, chain)
        return report + self.pki.pck.sign(report) + auth_data + certified

    def _qe_report(self) -> bytes:
        """The quoting enclave's SGX report body, 384 bytes: it vouches for the attestation key."""
        vouched = hashlib.sha256(raw_public_key(self._attestation_key) + self._qe_auth_data).digest()
        report = (
            CPU_SVN
            + QE_MISCSELECT
            + bytes(28)
            + QE_ATTRIBUTES
            + hashlib.sha256(b"simulated TD quoting enclave: code").digest()  # MRENCLAVE
            + bytes(32)
            + QE_MRSIGNER
            + bytes(96)
            + QE_ISV_PROD_ID.to_bytes(2, "little")
            + QE_ISV_SVN.to_bytes(2, "little")
            + bytes(60)
            + vouched.ljust(REPORT_DATA_SIZE, b"\0")
        )
        assert len(report) == 384
        return report


def td_report(measured: TdMeasurements, report_data: bytes) -> bytes:
    """A TD report body for TDX 1.0, 584 bytes.

    Raises:
        ValueError: The report data is not 64 bytes long.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise ValueError(f"report_data has {len(report_data)} bytes; it takes {REPORT_DATA_SIZE}")
    attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE | (TD_ATTRIBUTE_DEBUG if measured.debug else 0)
    report = (
        TEE_TCB_SVN
        + hashlib.sha384(b"simulated TDX module").digest()  # MRSEAM
        + bytes(48)  # MRSIGNERSEAM: zeros stand for Intel
        + bytes(8)  # SEAMATTRIBUTES
        + attributes.to_bytes(8, "little")
        + XFAM
        + measured.mrtd
        + measured.mr_config_id
        + bytes(48)  # MROWNER
        + bytes(48)  # MROWNERCONFIG
        + b"".join(measured.rtmrs)
        + report_data
    )
    assert len(report) == 584
    return report


def unread_bytes(quote: bytes) -> tuple[frozenset[int], frozenset[int]]:
    """Where a quote from here can be changed without dcap-qvl (0.7) minding.

    The certificates in the quote are bound by their signatures, not by the quote's; what PEM has around them is bound
    by nothing. Every other byte counts. (It does not mind bytes behind the quote either: real quotes come padded.)

    Returns:
        Two sets of offsets. Bytes that can be anything: the outer certification data's type, which dcap-qvl takes to
        be 6 in a quote of version 4 without looking, and the line end between two certificates, because PEM allows
        text there (RFC 7468, 2). And line ends in PEM that can be other white space.
    """
    pem_at = quote.index(b"-----BEGIN")
    between = quote.index(b"-\n-", pem_at) + 1
    kind_at = SIGNED_SIZE + 4 + 128
    line_ends = {at for at in range(pem_at, len(quote)) if quote[at] == 0x0A}
    return frozenset({kind_at, kind_at + 1, between}), frozenset(line_ends - {between})


def _certification_data(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data
