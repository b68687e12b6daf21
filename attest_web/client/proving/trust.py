"""Which keys may sign: attested ones, or ones that are configured."""

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
"""Sets of keys that are cached; the oldest is evicted and would be attested again."""

_WANTS_TOKEN = frozenset({401, 403})
"""HTTP statuses of a server whose reports need a token."""


class RefusedError(UnprovenError):
    """The server refused a report with an HTTP status.

    Attributes:
        answer: Its response.
    """

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True)
class Pin:
    """Keys that may sign.

    Attributes:
        signers: The address of each algorithm.
        tls_key: SHA-256 of the SPKI of the TLS key that goes with them; None where TLS is not bound.
        evidence: The reports, and the nonce that they were made for.
        audit: The outcome of their checks.
        collateral: What the quotes were checked against, if that is known.
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
        """Whether any keys may sign yet."""

    @property
    def tls_keys(self) -> frozenset[bytes]:
        """SHA-256 of the SPKI of each TLS key that goes with them, where TLS is bound."""

    def find(self, signers: Signers, tls_key: bytes | None) -> Pin | None:
        """The pin for these keys, if they may sign."""

    def attested(self, signers: Signers | None, tls_key: bytes | None) -> Pin | None:
        """The pin that `pin` would return for the same arguments, if it has been made since."""

    def pin(self, signers: Signers | None, tls_key: bytes | None, model: str | None) -> Steps[Pin]:
        """Decide whether these keys may sign, or which may, if None are given.

        Raises:
            ProofError: They may not, or it cannot be decided.
        """


class KnownSigners:
    """Trust in addresses that are configured, say from a run of `tee-verify`."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Trust these.

        Raises:
            ValueError: One is neither an Ethereum address nor an Ed25519 public key.
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
        """Always: nothing has to be fetched."""
        return True

    @property
    def tls_keys(self) -> frozenset[bytes]:
        """None: TLS is not bound."""
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
        """See `Trust`: what `find` has not found is not known.

        Raises:
            MismatchError: Always.
        """
        yield from ()
        shown = ", ".join(shown_address(algo, address) for algo, address in (signers or {}).items())
        raise MismatchError(f"{shown} has signed, which is none of the known signers")


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
        """Trust what the policy trusts.

        Args:
            policy: What reports must meet.
            algos: The algorithms, of whose keys there must be a report each.
            tls: Whether the server's TLS key must be the attested one.
            send_token: Whether a server that shows no report without the token is sent it before its key is attested.
            nonce: Gives so many random bytes.
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
        """See `Trust`: fetch reports with a fresh nonce, and check them.

        Raises:
            RefusedError: The server gives no report.
            UnprovenError: There is none, or it cannot be checked.
            MismatchError: It does not hold, or is about other keys.
        """
        nonce = self._nonce(NONCE_BYTES)
        evidence = Evidence(nonce=nonce)
        keys_seen = set() if tls_key is None else {tls_key}
        for algo in self._algos:
            address = None if signers is None else shown_address(algo, signers[algo])
            target = report_target(algo, nonce, address, tls=self._tls, model=model)
            answer = yield from self._report(target)
            if answer.status != 200:
                why = f"/attestation/report answered {answer.status}"
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
            raise MismatchError("the report is about another key than the one that has signed this answer")
        pin = Pin(attested, next(iter(keys_seen)) if self._tls else None, evidence, audit, collateral)
        self._pins = (pin, *self._pins)[:MAX_PINS]
        return pin

    def _report(self, target: str) -> Steps[Answer]:
        """Fetch a report: at first without the token, as the server is not attested yet."""
        answer = yield from _ask(target, with_token=False)
        if answer.status not in _WANTS_TOKEN:
            return answer
        if not self._send_token:
            raise UnprovenError(
                f"/attestation/report answered {answer.status} without the token, which public_reports keeps from it:"
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
        raise UnprovenError(f"no attestation report could be had: {answer}")
    return answer


def the_report(body: bytes, address: str | None) -> bytes:
    """The report in a response: the response itself, or one of those that a gateway has gathered from many machines.

    NEAR AI's gateway has the models' reports in `model_attestations`.
    """
    try:
        source = parse_object(body, "the report")
    except FailedError:
        return body  # the check says what is wrong with it
    gathered = source.get("model_attestations")
    if "intel_quote" in source or not isinstance(gathered, list):
        return body
    for each in gathered:
        named = each.get("signing_address") if isinstance(each, dict) else None
        if address is None or (isinstance(named, str) and named.lower() == address.lower()):
            return json.dumps(each).encode()
    return body
