"""Verifies a server's certificate by the attestation in it, before anything is sent."""

import datetime
import ssl
import threading
from collections.abc import Callable, Sequence

from attest_web.verify.certificate_checks import certificate_checks
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, all_hold

MAX_CACHED = 16
"""Certificates whose passed checks are cached; the oldest is evicted and would be checked again."""

MAX_AGE = datetime.timedelta(hours=1)
"""How long passed checks are cached: revocation and TCB levels change, and certificates expire."""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class CertificateVerifier:
    """Checks certificates, and caches passed checks for `MAX_AGE`, as one certificate serves many connections.

    Thread-safe. Unlike a report with a nonce, a cached check does not prove freshness.
    """

    def __init__(self, policy: Policy, clock: Callable[[], datetime.datetime] = _now) -> None:
        """Check by a policy that pins the compose file and the guest image: any app on any image can get a certificate.

        Args:
            policy: What a certificate must meet.
            clock: The time, with its zone.

        Raises:
            ValueError: The policy does not pin them.
        """
        if policy.compose_hash is None or not policy.pins_guest:
            raise ValueError("the policy has to pin the compose file and the guest image")
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[bytes, tuple[datetime.datetime, Sequence[Check]]] = {}

    def __call__(self, certificate: bytes) -> Sequence[Check]:
        """The checks of a certificate in DER. They may block while Intel's collateral is fetched."""
        now = self._clock()
        with self._lock:
            since, checks = self._cache.get(certificate, (now, ()))
        if checks and now - since < MAX_AGE:
            return checks
        checks = certificate_checks(certificate, self._policy, now)
        if all_hold(checks):
            with self._lock:
                self._cache[certificate] = now, checks
                while len(self._cache) > MAX_CACHED:
                    del self._cache[next(iter(self._cache))]
        return checks


def any_certificate() -> ssl.SSLContext:
    """A TLS context that accepts any certificate: a `CertificateVerifier` must check it before anything is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def why_refused(checks: Sequence[Check]) -> str:
    """The checks that a certificate did not pass, in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.holds)
