"""The TLS key that reports bind (`TLS_CERT_PATH`): that of this proxy, or of a proxy in front of it.

mitmproxy loads the files of `--certs` when it starts, and serves them until it ends. So the fingerprint is computed
then: a file that is replaced later takes effect in the next process, after a restart or a SIGHUP.
"""

import logging
from pathlib import Path

from mitmproxy import ctx, exceptions

from attest_web.attestation.tls_fingerprint import TlsCertificateError, TlsFingerprint

logger = logging.getLogger(__name__)

_LOADING = frozenset({"certs", "confdir", "key_size", "cert_passphrase"})
"""Options whose change makes mitmproxy reload the files of `--certs`."""


class AttestedTlsKey:
    """The fingerprint of the TLS key that clients see."""

    def __init__(self, path: Path) -> None:
        """Prepare; nothing is read yet.

        Args:
            path: `TLS_CERT_PATH`.
        """
        self._path = path
        self._named = TlsFingerprint(path)
        self._served: bytes | None = None
        self._is_running = False

    def __call__(self) -> bytes:
        """SHA-256 of the key's SubjectPublicKeyInfo, 32 bytes.

        Raises:
            TlsCertificateError: The certificate cannot be read.
        """
        return self._served if self._served is not None else self._named()

    def configure(self, updated: set[str]) -> None:
        """Reject options that would change the served key, which reports bind."""
        if self._is_running and updated & _LOADING:
            names = ", ".join(sorted(updated & _LOADING))
            raise exceptions.OptionsError(f"{names}: reports bind the key of TLS_CERT_PATH; restart to change it")

    def running(self) -> None:
        """Compute the fingerprint of the key that mitmproxy has just loaded, and refuse to start with another key."""
        self._is_running = True
        if not ctx.options.certs:
            logger.warning(
                "TLS_CERT_PATH without --certs: reports bind a key that this proxy does not serve. That is right only "
                "where a proxy in front of it, inside the TEE, serves TLS with the certificate in %s%s",
                self._path,
                self._present_problem(),
            )
            return
        try:
            named = self._named()
            served = {str(path): TlsFingerprint(path)() for path in map(_path_of, ctx.options.certs)}
        except TlsCertificateError as error:
            logger.error("%s", error)
            return
        if named not in served.values():
            logger.error(
                "TLS_CERT_PATH %s has another key than --certs %s: name the certificate that clients see",
                self._path,
                ", ".join(served),
            )
        self._served = named

    def _present_problem(self) -> str:
        try:
            self._named()
        except TlsCertificateError as error:
            return f"; it cannot be used now: {error}"
        return ""


def _path_of(spec: str) -> Path:
    """The file of an entry of `--certs`: `[domain=]path`."""
    domain, mark, path = spec.partition("=")
    return Path(path if mark else domain).expanduser()
