"""`/v1/attestation/report`: evidence that the signing keys are this TD's."""

import logging
import re
from collections.abc import Callable

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import MethodNotAllowed

from attest_web.attestation.report_cache import MAX_PER_CLIENT, MAX_PER_STRANGER, ReportCache, TooManyReportsError
from attest_web.attestation.reports import Attestation, ReportRequest
from attest_web.attestation.tls_fingerprint import TlsCertificateError
from attest_web.dstack.guest_agent import DstackError
from attest_web.errors import error_body, error_headers
from attest_web.gpu.evidence import GpuEvidenceError
from attest_web.middleware.auth import Tokens
from attest_web.middleware.bearer import require_token
from attest_web.middleware.client_address import client_of, sharer_of
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo

logger = logging.getLogger(__name__)

_UNAVAILABLE = "No report can be made now. The log of this proxy says why."


def blueprint(
    tokens: Tokens | None,
    attestation: Attestation,
    report_cache: ReportCache,
    tls_fingerprint: Callable[[], bytes] | None,
    *,
    trust_proxy: bool,
) -> Blueprint:
    """The report page.

    Args:
        tokens: The bearer tokens that open reports; None where they are public.
        attestation: Has the keys' addresses.
        report_cache: Returns the reports.
        tls_fingerprint: Gives the SHA-256 of the TLS key's SPKI; None where there is no certificate.
        trust_proxy: See `attest_web.middleware.client_address.client_of`.
    """
    pages = Blueprint("attestation_page", __name__)

    @pages.get("/v1/attestation/report")
    def report() -> ResponseReturnValue:
        if request.method == "HEAD":  # a HEAD response would take a whole report to make
            raise MethodNotAllowed(["GET", "OPTIONS"])
        if tokens is not None:
            require_token(tokens)
        algo = _algo(attestation)
        address = request.args.get("signing_address")
        if address is not None and address.lower() != attestation.address(algo).lower():
            abort(404, "signing_address is not an address of this proxy.")
        with_tls = _flag("include_tls_fingerprint")
        nonce = request.args.get("nonce")
        if nonce is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", nonce):
            abort(400, "nonce must be 32 bytes in hex: 64 digits, no 0x.")
        try:
            # Read for each request: a cached report must be about the current certificate, too.
            fingerprint = tls_fingerprint() if with_tls and tls_fingerprint is not None else None
            asked = None if nonce is None else bytes.fromhex(nonce)
            client, share = _client_and_share(trust_proxy=trust_proxy, public=tokens is None)
            made = report_cache.report(ReportRequest(algo, fingerprint), asked, client, share)
        except TooManyReportsError:
            headers = {"retry-after": "1", **error_headers(429)}
            return Response(error_body(429, "Too many reports are being made. Try again in a second."), 429, headers)
        except (DstackError, GpuEvidenceError, TlsCertificateError) as error:
            # Their messages name paths and settings, which are not for clients.
            logger.error("no attestation report can be made: %s", error)
            return Response(error_body(503, _UNAVAILABLE), 503, error_headers(503))
        except TimeoutError:
            return Response(error_body(503, "No report was made in time. Try again."), 503, error_headers(503))
        return Response(made, content_type="application/json")

    return pages


def _client_and_share(*, trust_proxy: bool, public: bool) -> tuple[str | None, int]:
    """The client of the request, and how many of its requests may wait at once."""
    told = request.headers.get("X-Forwarded-For"), request.headers.get("X-Real-IP")
    peer = request.remote_addr or ""
    if public:  # then even a proxy that does not name its client has a share
        return client_of(peer, *told, trust_proxy=trust_proxy), MAX_PER_STRANGER
    return sharer_of(peer, *told, trust_proxy=trust_proxy), MAX_PER_CLIENT


def _algo(attestation: Attestation) -> SigningAlgo:
    asked = request.args.get("signing_algo")
    if asked is None:
        # An address names its key.
        address = request.args.get("signing_address", "").lower()
        return "ed25519" if address == attestation.address("ed25519").lower() else "ecdsa"
    if asked not in SIGNING_ALGOS:
        abort(400, "signing_algo must be ecdsa or ed25519.")
    return asked


def _flag(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        abort(400, f"{name} must be true or false.")
    return value in ("true", "1")
