"""Attestation reports: what binds the signing keys to this TD, its GPU and, if asked for, its TLS key."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from attest_web.attestation.report_data import report_data
from attest_web.dstack.guest_agent import Quote
from attest_web.dstack.key_chain import KeyChains
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.signatures import SigningAlgo


class QuoteSource(Protocol):
    """Makes quotes; in production, `attest_web.dstack.guest_agent.Dstack`."""

    def quote(self, report_data: bytes) -> Quote:
        """A fresh quote over 64 bytes."""

    def info(self) -> dict[str, Any]:
        """The app's information; may be cached."""


@dataclass(frozen=True)
class ReportRequest:
    """What a report is about.

    Attributes:
        algo: Which key.
        tls_fingerprint: SHA-256 of the TLS key's SPKI, to bind that key too.
    """

    algo: SigningAlgo
    tls_fingerprint: bytes | None = None


@dataclass(frozen=True)
class Attestation:
    """Makes reports. Each takes as long as dstack and the GPU take, seconds perhaps.

    Attributes:
        keys: The keys to be bound.
        model_name: Goes into the report.
        quotes: Where quotes come from.
        gpu_evidence: Gives the `nvidia_payload` for a nonce in hex.
        dev: Whether the keys are random: every report then says so.
        metrics: Measure how long each part takes.
        chains: The signature chains of the keys.
        gpu_info: Gives the guest's attestation of its GPUs at boot; None where there is none.
    """

    keys: SigningKeys
    model_name: str
    quotes: QuoteSource
    gpu_evidence: Callable[[str], str]
    dev: bool
    metrics: Metrics
    chains: KeyChains = field(default_factory=KeyChains)
    gpu_info: Callable[[], str | None] = lambda: None

    def address(self, algo: SigningAlgo) -> str:
        """The address that verifiers know a key by."""
        return self.keys.ecdsa_address if algo == "ecdsa" else self.keys.ed25519_address

    def report(self, request: ReportRequest, nonce: bytes) -> bytes:
        """Make a report with fresh evidence.

        Args:
            request: What it is to be about.
            nonce: 32 bytes.

        Returns:
            The report as JSON.

        Raises:
            DstackError: The quote, or what goes with it, cannot be made.
            GpuEvidenceError: The GPU evidence cannot be made.
        """
        with self.metrics.attesting("report"):
            return self._report(request, nonce)

    def _report(self, request: ReportRequest, nonce: bytes) -> bytes:
        ecdsa = request.algo == "ecdsa"
        address = bytes.fromhex(self.address(request.algo).removeprefix("0x"))
        with self.metrics.attesting("quote"):
            quote = self.quotes.quote(report_data(address, nonce, request.tls_fingerprint))
        with self.metrics.attesting("gpu"):
            nvidia_payload = self.gpu_evidence(nonce.hex())
        info = self.quotes.info()
        report: dict[str, Any] = {
            "model_name": self.model_name,
            "signing_address": self.address(request.algo),
            "signing_algo": request.algo,
            "signing_public_key": (self.keys.ecdsa_public_key if ecdsa else self.keys.ed25519_public_key).hex(),
            "request_nonce": nonce.hex(),
            "intel_quote": quote.quote,
            "nvidia_payload": nvidia_payload,
            "event_log": quote.event_log,
            "info": info,
        }
        app_id = info.get("app_id")
        if isinstance(app_id, str) and re.fullmatch("[0-9a-f]{40}", app_id):
            report["app_id"] = app_id
        vm_config = quote.vm_config or info.get("vm_config")
        if isinstance(vm_config, str) and vm_config:
            report["vm_config"] = vm_config
        if chain := self.chains.ecdsa if ecdsa else self.chains.ed25519:
            report["signature_chain"] = chain
        if gpu_info := self.gpu_info():
            report["gpu_info"] = gpu_info
        if request.tls_fingerprint is not None:
            report["tls_cert_fingerprint"] = request.tls_fingerprint.hex()
        if self.dev:
            report["dev"] = True
        # Verifiers in the field look in one of these lists. The report is large, and serialised only once.
        alone = json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode()
        return b'%s,"all_attestations":[%s],"model_attestations":[%s]}' % (alone[:-1], alone, alone)
