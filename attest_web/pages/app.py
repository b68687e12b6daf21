"""The application factory of the pages (Flask)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, Response, request
from prometheus_client.registry import Collector
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from attest_web.attestation.report_cache import ReportCache
from attest_web.attestation.reports import Attestation
from attest_web.errors import error_body, error_headers
from attest_web.metrics import Metrics
from attest_web.middleware.auth import Tokens
from attest_web.middleware.e2ee_headers import UNSUPPORTED, asks_for_encryption
from attest_web.pages import attestation as attestation_page
from attest_web.pages import front as front_page
from attest_web.pages import metrics as metrics_page
from attest_web.pages import openapi
from attest_web.pages import signature as signature_page
from attest_web.pages import status as status_pages
from attest_web.stores.signature_store import SignatureStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppDependencies:
    """The dependencies of the pages.

    Attributes:
        tokens: The bearer tokens that open signatures.
        store: Where the signatures are.
        upstream_answers: Whether the upstream answers; may block for a few seconds.
        draining: Whether the proxy is draining.
        attestation: Has the keys' addresses.
        report_cache: Returns attestation reports; may block for as long as one takes to make.
        tls_fingerprint: Gives the SHA-256 of the TLS key's SPKI; None where there is no certificate.
        attestation_public: Whether reports need no token. Each client then has its share of them.
        trust_proxy: Whether the forwarded address is trusted of a proxy in this machine's own network.
        metrics: This proxy's metrics, which count requests to the pages, too.
        machine: Further collectors, of the machine.
        model_name: Name of the served model.
        release: Installed release of this proxy.
        git_revision: Revision of its source, if known.
        source_url: Where that source is, if it is configured.
    """

    tokens: Tokens
    store: SignatureStore
    upstream_answers: Callable[[], bool]
    draining: Callable[[], bool]
    attestation: Attestation
    report_cache: ReportCache
    tls_fingerprint: Callable[[], bytes] | None
    attestation_public: bool
    trust_proxy: bool
    metrics: Metrics
    machine: Sequence[Collector]
    model_name: str
    release: str
    git_revision: str | None
    source_url: str | None = None


class _Anything(BaseConverter):
    """Any path from here on, slashes at its beginning included."""

    regex = ".+"
    part_isolating = False


def create_app(sources: AppDependencies) -> Flask:
    """Make the application. It has no state of its own: all of it is in `sources`."""
    app = Flask("attest_web", static_folder=None)
    app.url_map.merge_slashes = False  # an id may have two in a row, and a redirect would reveal internal addresses
    app.url_map.converters["anything"] = _Anything
    app.json.compact = True  # type: ignore[attr-defined]  # of Flask's default provider
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(
        status_pages.blueprint(
            sources.upstream_answers, sources.draining, sources.store, sources.release, sources.git_revision
        )
    )
    app.register_blueprint(
        front_page.blueprint(
            sources.attestation,
            sources.release,
            sources.git_revision,
            attestation_public=sources.attestation_public,
            source_url=sources.source_url,
        )
    )
    build = {
        "version": sources.release,
        "revision": sources.git_revision or "",
        "model": sources.model_name,
    }
    state = metrics_page.ProxyState(lambda: sources.upstream_answers() and not sources.draining(), sources.store, build)
    app.register_blueprint(metrics_page.blueprint(sources.metrics.registry(state, *sources.machine)))
    app.register_blueprint(openapi.blueprint(sources.release, attestation_public=sources.attestation_public))
    app.register_blueprint(signature_page.blueprint(sources.tokens, sources.store, sources.metrics))
    asked_for = None if sources.attestation_public else sources.tokens
    app.register_blueprint(
        attestation_page.blueprint(
            asked_for,
            sources.attestation,
            sources.report_cache,
            sources.tls_fingerprint,
            trust_proxy=sources.trust_proxy,
        )
    )
    app.before_request(_refuse_encryption)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    return app


def _refuse_encryption() -> Response | None:
    if not asks_for_encryption(name.encode("latin-1", "replace") for name, _ in request.headers):
        return None
    return Response(error_body(400, UNSUPPORTED, "e2ee_unsupported"), 400, error_headers(400))


def _answer_http_error(error: HTTPException) -> Response:
    status = error.code or 500
    # Werkzeug's own descriptions are written for browsers.
    message = f"{error.name}." if error.description in (None, type(error).description) else error.description
    response = Response(error_body(status, message or error.name), status, error_headers(status))
    for name, value in error.get_headers():
        if name.lower() == "allow":  # 405 has to name the allowed methods (RFC 9110, 15.5.6)
            response.headers[name] = value
    return response


def _answer_bug(error: Exception) -> Response:
    # The traceback's frames are enough; the message might quote a request, so it is not logged.
    logger.error("a proof page failed: %s", type(error).__name__, exc_info=error)
    return Response(error_body(500, "Something went wrong here; the log has more."), 500, error_headers(500))
