"""Decides which keys may sign: attested keys, or configured ones."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from attest_web.attestation.report_data import NONCE_BYTES
from attest_web.client.proving.errors import MismatchError, UnprovenError, not_holding
from attest_web.client.proving.proof import Proof
from attest_web.client.proving.steps import Get, RunBlocking, StartDeadline, Steps, report_target
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.audit import DEV_ROOT, Audit, check_evidence
from attest_web.verify.collateral import DcapVerifier
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.http_client import Answer, FetchError
from attest_web.verify.primitives.untrusted_json import parse_object
from attest_web.verify.report import Report
from attest_web.verify.signed_text import address_bytes, shown_address

Signers = Mapping[SigningAlgo, bytes]
"""Addresses by algorithm."""

MAX_PINS = 16
"""Number of cached sets of keys; an evicted set is attested again when it is used."""

_WANTS_TOKEN = frozenset({401, 403})
"""HTTP statuses of a server whose reports require a token."""


class RefusedError(UnprovenError):
    """The server responded to the request for a report with an HTTP error.

    Attributes:
        answer: The response.
    """

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True)
class Pin:
    """Keys that may sign.

    Attributes:
        signers: The address of each algorithm.
        tls_key: SHA-256 of the SPKI of the TLS key in the same reports; None where TLS is not bound.
        evidence: The reports, and the nonce that they were made for.
        audit: The outcome of their checks.
        collateral: The collateral that the quotes were checked against; None if unknown.
    """

    signers: Signers
    tls_key: bytes | None
    evidence: Evidence
    audit: Audit
    collateral: str | None = None


class Trust(Protocol):
    """Decides which keys may sign."""

    @property
    def settled(self) -> bool:
        """Whether any keys are trusted yet."""

    @property
    def tls_keys(self) -> frozenset[bytes]:
        """SHA-256 of the SPKI of each trusted TLS key; empty where TLS is not bound."""

    def find(self, signers: Signers, tls_key: bytes | None) -> Pin | None:
        """The pin of these keys; None if they are not trusted."""

    def attested(self, signers: Signers | None, tls_key: bytes | None) -> Pin | None:
        """The pin that `pin` would return for the same arguments; None if there is none yet."""

    def pin(self, signers: Signers | None, tls_key: bytes | None, model: str | None) -> Steps[Pin]:
        """Decide whether these keys may sign; with None, find the keys that may.

        Raises:
            ProofError: They may not sign, or it cannot be decided.
        """


class KnownSigners:
    """Trust in configured addresses, for example from a run of `tee-verify`."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Trust these addresses.

        Raises:
            ValueError: An address is neither an Ethereum address nor an Ed25519 public key.
        """
        self._known: dict[SigningAlgo, set[bytes]] = {algo: set() for algo in SIGNING_ALGOS}
        for address in addresses:
            algo: SigningAlgo = "ecdsa" if address.startswith("0x") else "ed25519"
            try:
                self._known[algo].add(address_bytes(algo, address))
            except FailedError as error:
                raise ValueError(f"signers: {error}") from None

    @property
    def settled(self) -> bool:
        """Always True: nothing has to be fetched."""
        return True

    @property
    def tls_keys(self) -> frozenset[bytes]:
        """Always empty: TLS is not bound."""
        return frozenset()

    def find(self, signers: Signers, tls_key: bytes | None) -> Pin | None:  # noqa: ARG002
        """See `Trust`. The TLS key is ignored."""
        if signers and all(address in self._known[algo] for algo, address in signers.items()):
            return Pin(signers, None, Evidence(), Audit())
        return None

    def attested(self, signers: Signers | None, tls_key: bytes | None) -> Pin | None:
        """See `Trust`."""
        return self.find(signers, tls_key) if signers is not None else None

    def pin(self, signers: Signers | None, tls_key: bytes | None, model: str | None) -> Steps[Pin]:  # noqa: ARG002
        """See `Trust`. Keys that `find` does not find are not trusted.

        Raises:
            MismatchError: Always.
        """
        yield from ()
        shown = ", ".join(shown_address(algo, address) for algo, address in (signers or {}).items())
        raise MismatchError(f"{shown} has signed, which is not one of the known signers")


class AttestedSigners:
    """Trust in the keys of reports that a policy accepts."""

    def __init__(
        self,
        policy: Policy,
        algos: Sequence[SigningAlgo],
        *,
        tls: bool,
        send_token: bool = True,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Trust the keys that a policy accepts.

        Args:
            policy: The requirements on reports.
            algos: The algorithms; a report about the key of each is required.
            tls: Whether the server's TLS key must be the attested one.
            send_token: Whether the token is sent before the key is attested, to a server that requires it for reports.
            nonce: Returns a number of random bytes.
        """
        self._policy = policy
        self._algos = tuple(algos)
        self._tls = tls
        self._send_token = send_token
        self._nonce = nonce
        self._pins: tuple[Pin, ...] = ()  # replaced and never changed: threads read it without a lock

    @property
    def settled(self) -> bool:
        """Whether any keys have been attested yet."""
        return bool(self._pins)

    @property
    def tls_keys(self) -> frozenset[bytes]:
        """See `Trust`."""
        return frozenset(pin.tls_key for pin in self._pins if pin.tls_key is not None)

    def find(self, signers: Signers, tls_key: bytes | None) -> Pin | None:
        """See `Trust`."""
        for pin in self._pins:
            if pin.signers == signers and (not self._tls or (tls_key is not None and pin.tls_key == tls_key)):
                return pin
        return None

    def attested(self, signers: Signers | None, tls_key: bytes | None) -> Pin | None:
        """See `Trust`."""
        if signers is not None:
            return self.find(signers, tls_key)
        return next((pin for pin in self._pins if tls_key in (None, pin.tls_key)), None)

    def pin(self, signers: Signers | None, tls_key: bytes | None, model: str | None) -> Steps[Pin]:
        """See `Trust`. Requests reports with a fresh nonce and checks them.

        Raises:
            RefusedError: The server responded with an error.
            UnprovenError: There is no report, or it cannot be checked.
            MismatchError: The report is invalid, or about other keys.
        """
        nonce = self._nonce(NONCE_BYTES)
        evidence = Evidence(nonce=nonce)
        keys_seen = set() if tls_key is None else {tls_key}
        for algo in self._algos:
            address = None if signers is None else shown_address(algo, signers[algo])
            target = report_target(algo, nonce, address, tls=self._tls, model=model)
            answer = yield from self._report(target)
            if answer.status != 200:
                why = f"/attestation/report returned {answer.status}"
                if answer.status == 404:
                    why += "; is this a signing proxy, and does its address here end in /v1?"
                raise RefusedError(f"no report about the {algo} key {address or 'in use'}: {why}", answer)
            if tls_key is None and answer.spki_sha256 is not None:
                keys_seen.add(answer.spki_sha256)
            evidence.reports.append(Statement(the_report(answer.body, address), algo))
        if self._tls:
            evidence.tls_keys = frozenset(keys_seen)
        audit, collateral = yield RunBlocking(lambda: self._check(evidence))
        if not audit.ok:
            proof = Proof(evidence, tuple(audit.checks), tuple(audit.warnings), collateral=collateral)
            raise not_holding("the attestation of this server's keys", audit.checks, proof)
        attested = {
            algo: Report.parse(said.body).address for algo, said in zip(self._algos, evidence.reports, strict=True)
        }
        if signers is not None and attested != dict(signers):
            raise MismatchError("the report is about another key than the one that has signed this response")
        pin = Pin(attested, next(iter(keys_seen)) if self._tls else None, evidence, audit, collateral)
        self._pins = (pin, *self._pins)[:MAX_PINS]
        return pin

    def _report(self, target: str) -> Steps[Answer]:
        """Request a report: first without the token, as the server is not attested yet."""
        answer = yield from _ask(target, with_token=False)
        if answer.status not in _WANTS_TOKEN:
            return answer
        if not self._send_token:
            raise UnprovenError(
                f"/attestation/report returned {answer.status} without the token, which public_reports withholds:"
                " are the reports of this server public (ATTESTATION_PUBLIC=1)?"
            )
        return (yield from _ask(target, with_token=True))

    def _check(self, evidence: Evidence) -> tuple[Audit, str | None]:
        audit = check_evidence(evidence, self._policy)
        verifier = self._policy.verify_quote
        if not isinstance(verifier, DcapVerifier):
            return audit, None
        if not verifier.trusts_intel:
            audit.warn(DEV_ROOT)
        return audit, verifier.used


def _ask(target: str, *, with_token: bool) -> Steps[Answer]:
    yield StartDeadline()
    answer: Answer | FetchError = yield Get(target, about_keys=True, with_token=with_token)
    if isinstance(answer, FetchError):
        raise UnprovenError(f"the attestation report could not be fetched: {answer}")
    return answer


def the_report(body: bytes, address: str | None) -> bytes:
    """The report in a response: the response itself, or one of the reports that a gateway has collected from machines.

    NEAR AI's gateway has the models' reports in `model_attestations`.
    """
    try:
        source = parse_object(body, "the report")
    except FailedError:
        return body  # the check reports the error
    gathered = source.get("model_attestations")
    if "intel_quote" in source or not isinstance(gathered, list):
        return body
    for each in gathered:
        named = each.get("signing_address") if isinstance(each, dict) else None
        if address is None or (isinstance(named, str) and named.lower() == address.lower()):
            return json.dumps(each).encode()
    return body
