"""Decides whether anything may be sent to a server, by the attestation in its certificate."""

import datetime
import ssl
import threading
from collections.abc import Callable, Sequence

from attest_web.verify.certificate_checks import certificate_checks
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, all_hold

MAX_REMEMBERED = 16
"""Certificates that are remembered to hold; the oldest is forgotten and would be checked anew."""

MAX_AGE = datetime.timedelta(hours=1)
"""How long a certificate that holds is taken to hold: revocation and TCB levels change, and validity ends."""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class CertificateVerifier:
    """Checks certificates, and remembers those that hold: connections are many, certificates few. Safe in any thread.

    What holds is remembered for `MAX_AGE`; a report with a nonce says how things are now.
    """

    def __init__(self, policy: Policy, clock: Callable[[], datetime.datetime] = _now) -> None:
        """Judge by a policy. It has to pin compose file and guest image: any app on any image can have a certificate.

        Args:
            policy: What is demanded.
            clock: The time, with its zone.

        Raises:
            ValueError: The policy does not pin them.
        """
        if policy.compose_hash is None or not policy.pins_guest:
            raise ValueError("the policy has to pin the compose file and the guest image")
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[bytes, tuple[datetime.datetime, Sequence[Check]]] = {}

    def __call__(self, certificate: bytes) -> Sequence[Check]:
        """The checks of a certificate in DER. It may take as long as Intel's collateral takes to be fetched."""
        now = self._clock()
        with self._lock:
            since, checks = self._held.get(certificate, (now, ()))
        if checks and now - since < MAX_AGE:
            return checks
        checks = certificate_checks(certificate, self._policy, now)
        if all_hold(checks):
            with self._lock:
                self._held[certificate] = now, checks
                while len(self._held) > MAX_REMEMBERED:
                    del self._held[next(iter(self._held))]
        return checks


def any_certificate() -> ssl.SSLContext:
    """TLS that takes any certificate: it is for a `CertificateVerifier` to refuse one before anything is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def why_refused(checks: Sequence[Check]) -> str:
    """What speaks against a certificate, in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.holds)
