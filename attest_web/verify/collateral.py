"""The check of a quote's signature and certificates by dcap-qvl, against Intel's collateral.

Collateral is what Intel publishes about its platforms: revocation lists, TCB levels, the quoting enclave's identity.
It is signed, so its source need not be trusted.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.verify.primitives.checks import FailedError, NotMadeError

INTEL_PCS_URL: str = dcap_qvl.INTEL_PCS_URL
_FETCH = Path(__file__).with_name("fetch_collateral.py")

TCB_UP_TO_DATE = "UpToDate"
TCB_STATUSES = (
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
"""TCB statuses that a policy may allow besides `UpToDate`. `Revoked` is not among them."""


@dataclass(frozen=True)
class QuoteVerdict:
    """The state of the platform of a quote whose signature is valid.

    Attributes:
        tcb_status: Intel's status of its firmware and microcode: `UpToDate` or another.
        advisory_ids: Intel's security advisories that apply to it.
    """

    tcb_status: str
    advisory_ids: tuple[str, ...] = ()


QuoteVerifier = Callable[[bytes], QuoteVerdict]
"""Checks the bytes of a quote. Raises `FailedError` if it is invalid, `NotMadeError` if it cannot be checked."""

CollateralSource = Callable[[bytes], Any]
"""Returns the `dcap_qvl.QuoteCollateralV3` for the bytes of a quote. Raises `NotMadeError` if there is none."""


def collateral_from_json(text: str) -> Any:
    """The collateral in a JSON text as `dcap_qvl.QuoteCollateralV3.to_json` writes it.

    Raises:
        ValueError: It is something else.
    """
    return dcap_qvl.QuoteCollateralV3.from_json(text)


def collateral_from_service(url: str, timeout: float) -> CollateralSource:
    """Collateral from Intel's PCS or a cache of it (PCCS).

    Args:
        url: Address of the service, without a path.
        timeout: Seconds that the whole fetch may take.
    """

    def source(quote: bytes) -> Any:
        command = [sys.executable, "-P", str(_FETCH), url]
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                command, input=quote, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout, check=False
            )
            said = json.loads(done.stdout)
            if "collateral" in said:
                return collateral_from_json(said["collateral"])
            reason = _one_line(said["error"])
        except subprocess.TimeoutExpired:
            reason = f"no answer within {timeout:g} seconds"
        except (OSError, ValueError):
            reason = f"{_FETCH.name} cannot be run by {sys.executable or 'this Python'}"
        raise NotMadeError(f"no collateral from {url} ({reason}); give it with --collateral, or another --pccs-url")

    return source


class DcapVerifier:
    """A `QuoteVerifier` that uses dcap-qvl.

    Attributes:
        used: The collateral of the last quote, in JSON; None before the first.
    """

    def __init__(
        self, collateral: CollateralSource, root_ca: bytes | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Make a verifier.

        Args:
            collateral: Where the collateral comes from.
            root_ca: The root certificate to trust, in DER; None for Intel's.
            clock: Seconds since 1970, at which certificates must be valid.
        """
        self._collateral = collateral
        self._root_ca = root_ca
        self._clock = clock
        self.used: str | None = None

    @property
    def trusts_intel(self) -> bool:
        """Whether Intel's root is trusted, and no other."""
        return self._root_ca is None

    def __call__(self, quote: bytes) -> QuoteVerdict:
        """See `QuoteVerifier`."""
        collateral = self._collateral(quote)
        now = int(self._clock())
        try:
            self.used = str(collateral.to_json())
            if self._root_ca is None:
                verified = dcap_qvl.verify(quote, collateral, now)
            else:
                verified = dcap_qvl.verify_with_root_ca(quote, collateral, self._root_ca, now)
            return QuoteVerdict(str(verified.status), tuple(map(str, verified.advisory_ids)))
        except BaseException as error:
            raise FailedError(_message(error)) from None


def root_certificate(data: bytes) -> bytes:
    """A certificate in DER, from PEM or DER.

    Raises:
        ValueError: It is no certificate.
    """
    try:
        load = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
        return load(data).public_bytes(Encoding.DER)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a certificate in PEM or DER") from None


def _message(error: BaseException) -> str:
    """One line about an error of dcap-qvl's. Raises what must stop the program.

    A panic in its Rust code is a `BaseException` and no `Exception`, but means no more than any other error. So the
    callers catch everything, and this function raises again what they must not catch.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)):
        raise error
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    return ": ".join(line for line in lines if line not in ("", "Caused by:"))
