"""The proof of a response, for the caller of the client."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from attest_web.signatures import SigningAlgo
from attest_web.verify.evidence import Evidence, write_private
from attest_web.verify.primitives.checks import Check
from attest_web.verify.proof_file import SavedProof


@dataclass(frozen=True)
class Proof:
    """Everything that proves a response.

    Attributes:
        evidence: The bytes of request and response as they were on the wire, the signatures, and the reports about
            their keys (none where the keys were configured).
        checks: The checks that were made; those of the reports were made when the keys were first used.
        warnings: The points that the checks leave open, one line each.
        signers: The address that has signed, by algorithm.
        collateral: The collateral that the quotes were checked against, in dcap-qvl's JSON; None if unknown.
    """

    evidence: Evidence = field(repr=False)
    checks: tuple[Check, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    signers: Mapping[SigningAlgo, str] = field(default_factory=lambda: MappingProxyType({}))
    collateral: str | None = field(default=None, repr=False)

    @property
    def request_sha256(self) -> str:
        """SHA-256 of the request's body, in hex."""
        return hashlib.sha256(self.evidence.bodies.request if self.evidence.bodies else b"").hexdigest()

    @property
    def response_sha256(self) -> str:
        """SHA-256 of the response's body, in hex."""
        return hashlib.sha256(self.evidence.bodies.response if self.evidence.bodies else b"").hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a file for `tee-verify --proof`. It holds prompt and response, so only its owner may read it.

        Raises:
            OSError: It cannot be written.
        """
        write_private(Path(path), SavedProof(self.evidence, self.collateral).to_json())
