"""The script: `mitmdump -s addons/tee_signer.py --mode reverse:http://vllm:8000`.

Declares the options, reads the settings, and wires the chain of addons that do the work. No logic of its own.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pynvml
from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from prometheus_client import ProcessCollector

from addons.client_backlog import is_behind
from addons.client_clock import ClientTimeouts
from addons.client_connections import ClientConnections
from addons.cors import Cors
from addons.drain import Drain, Retirement
from addons.exchange import Exchanges
from addons.gate import Gate
from addons.http_stream import HttpLimits
from addons.inheritance import Inheritance
from addons.log_privacy import LogPrivacy
from addons.observer import Observer
from addons.open_files import allow_open_files
from addons.proof import ProofPages
from addons.rate_limit import RateLimit
from addons.request_log import log_request
from addons.reverse_proxy import (
    ReverseProxy,
    option_problems,
    override_problems,
    side_port_problems,
    upstream_base_url,
    upstream_tls,
)
from addons.routes import Router, body_sizes, endpoint_overrides
from addons.sampled_gauges import SampledGauges
from addons.signer import Signer, SigningRules
from addons.tracing import Tracing, TracingError, open_tracing
from addons.upstream_errors import UpstreamErrors
from attest_web.app import ProofSources, create_app
from attest_web.attestation import Attestation
from attest_web.auth import Tokens
from attest_web.core_dumps import forbid_core_dumps
from attest_web.cors import CorsApp, CorsPolicy
from attest_web.dstack import Dstack, DstackError
from attest_web.gpu_evidence import GpuEvidenceWorker, find_gpu_python
from attest_web.gpu_metrics import GpuFigures
from attest_web.json_log import json_formatter
from attest_web.keys import SigningKeys
from attest_web.metered_app import MeteredApp
from attest_web.metrics import Metrics
from attest_web.rate_limit import RateLimitedApp, RateLimiter
from attest_web.readiness import UpstreamProbe
from attest_web.report_desk import ReportDesk
from attest_web.settings import LaunchSettings, Settings, SettingsError, load_settings, split_tokens
from attest_web.side_port import SidePort
from attest_web.stores.address import MemoryAddress
from attest_web.stores.opening import open_store
from attest_web.tls_fingerprint import TlsFingerprint
from attest_web.version import checkout_revision, release

if TYPE_CHECKING:
    from addons.inspection_chain import InspectionChain

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parent.parent

MASKED = "********"
"""Stands in for a secret wherever mitmproxy shows its options."""


class TeeSigner:
    """Puts the signing proxy together.

    Attributes:
        addons: The chain, in the order in which a request meets it; empty until the settings are known.
    """

    name = "tee_signer"

    def __init__(self, inheritance: Inheritance | None = None) -> None:
        self.addons: list[Any] = []
        self._inheritance = inheritance or Inheritance()
        self._refused = False

    def drain(self) -> Drain:
        """What stops the proxy; there when the settings are known."""
        return next(addon for addon in self.addons if isinstance(addon, Drain))

    def signing_addresses(self) -> tuple[str, ...]:
        """By what verifiers know the keys; there when the settings are known."""
        keys = next(addon for addon in self.addons if isinstance(addon, Signer)).keys
        return keys.ecdsa_address, keys.ed25519_address

    def load(self, loader: Loader) -> None:
        """Declare every setting as an option; keep secrets from core dumps."""
        forbid_core_dumps()
        for field, info in Settings.model_fields.items():
            if field not in LaunchSettings.model_fields:  # mitmproxy's own --mode and -p
                help_text = f"{field.upper()}: {info.description}."
                loader.add_option(f"tee_{field}", Optional[str], None, help_text)  # type: ignore[arg-type]  # noqa: UP045

    def configure(self, updated: set[str]) -> None:
        """Wire the chain, once; afterwards, refuse changes that would not take effect or would do harm."""
        if not self.addons and not self._refused:
            self._start()
            return
        given = [name for name in updated if name.startswith("tee_") and getattr(ctx.options, name) != MASKED]
        problems = [f"{name} is read at the start; restart to change it" for name in given]
        if problems := problems + option_problems(ctx.options):
            raise exceptions.OptionsError("; ".join(problems))

    def _start(self) -> None:
        given = {field: value for field in Settings.model_fields if (value := _option(field)) is not None}
        problems = option_problems(ctx.options)
        try:
            settings = load_settings(Settings, given)
            if settings.log_format == "json":
                _write_json(self._inheritance.number)
            if not problems:
                chain = _wire(settings, self._inheritance)
        except SettingsError as error:
            problems = error.problems + problems
        if problems:
            # mitmproxy stops a start that has logged an error. Raising would add a traceback to every line.
            self._refused = True
            for problem in problems:
                logger.error(problem)
            return
        for addon in chain:
            ctx.master.addons.register(addon)
        self.addons = list(chain)
        secret = [f"tee_{field}" for field in ("token", "signature_store") if field in given]
        changes: dict[str, Any] = dict.fromkeys(secret, MASKED)
        if settings.log_format == "json" and "flow_detail" in ctx.options:
            changes["flow_detail"] = 0  # mitmdump's own lines about each flow are text
        ctx.options.update(**changes)


def _write_json(worker: int) -> None:
    termlog = ctx.master.addons.get("termlog")  # of mitmdump, mitmweb and tee-signer
    if termlog is not None:
        termlog.logger.setFormatter(json_formatter(worker))


def _option(field: str) -> str | None:
    return getattr(ctx.options, f"tee_{field}", None)


def _wire(settings: Settings, inheritance: Inheritance) -> Sequence[Any]:
    """Make the chain of addons.

    Raises:
        SettingsError: The keys cannot be had, or the side port cannot be opened.
    """
    overrides = endpoint_overrides(settings)
    problems = side_port_problems(ctx.options, settings.attest_port) + override_problems(ctx.options, overrides)
    if problems:
        raise SettingsError(problems)
    router = Router(overrides)
    dstack = Dstack()
    try:
        keys = inheritance.keys or (SigningKeys.random() if settings.dev else dstack.signing_keys(settings.model_name))
    except DstackError as error:
        raise SettingsError([f"{error}. Without a TEE, DEV=1 signs with random keys"]) from None
    tokens = Tokens(split_tokens(settings.token))
    in_memory = isinstance(settings.signature_store, MemoryAddress)
    address = inheritance.store if inheritance.store is not None and in_memory else settings.signature_store
    metrics, exchanges = Metrics(inheritance.metrics), Exchanges()
    store = open_store(address, settings.model_name, settings.chat_cache_expiration, metrics.conflicts.inc)
    probe = UpstreamProbe(upstream_base_url(ctx.options.mode), upstream_tls(ctx.options))
    gpu = GpuEvidenceWorker(settings.gpu_python or find_gpu_python(CHECKOUT), settings.gpu_no_hw_mode)
    tls_fingerprint = TlsFingerprint(settings.tls_cert_path) if settings.tls_cert_path else None
    attestation = Attestation(keys, settings.model_name, dstack, gpu.collect, settings.dev, metrics)
    draining = threading.Event()
    desk = ReportDesk(attestation.report, settings.attestation_cache_ttl, metrics)
    gpu_figures = GpuFigures(pynvml)
    app = create_app(
        ProofSources(
            tokens=tokens,
            store=store,
            upstream_answers=probe,
            draining=draining.is_set,
            attestation=attestation,
            desk=desk,
            tls_fingerprint=tls_fingerprint,
            attestation_public=settings.attestation_public,
            trust_proxy=not settings.rate_limit_no_trust_proxy,
            metrics=metrics,
            machine=[gpu_figures] if inheritance.workers > 1 else [gpu_figures, ProcessCollector(registry=None)],
            model_name=settings.model_name,
            release=release(),
            git_revision=settings.git_revision or checkout_revision(),
        )
    )
    limiter = _limiter(settings, inheritance)
    cors_policy = CorsPolicy(settings.cors_origins)
    side_app = MeteredApp(CorsApp(RateLimitedApp(app, limiter) if limiter else app, cors_policy), metrics)
    try:
        side_port = SidePort(side_app, ctx.options.listen_host, settings.attest_port, inheritance.side_listener)
    except OSError as error:
        problem = f"ATTEST_PORT {settings.attest_port} cannot be opened: {error.strerror}. Free it or set another"
        raise SettingsError([problem]) from None
    cors = Cors(cors_policy)
    gate = Gate(tokens, router, body_sizes(settings))
    clients = _client_connections(settings, inheritance)
    tracing = _tracing(settings, router)
    observer = Observer(router, exchanges, metrics, [log_request, *([tracing.tell] if tracing else [])])

    def complete(request: http.Request | None, answer: http.Response) -> None:
        cors.complete(request, answer)
        observer.answered(request, answer)

    looked_at = _inspection(router, exchanges, settings)
    limits = HttpLimits(
        gate.body_limit,
        settings.vllm_proxy_timeout_secs,
        complete,
        clients.clock_of,
        client_left=observer.client_left,
        keeps_plaintext=settings.keeps_plaintext,
        is_behind=is_behind,
        custody=looked_at.inspection if looked_at is not None else None,
    )
    signer = Signer(
        keys,
        store,
        router,
        SigningRules(settings.signed_model, settings.allow_request_hash_header, settings.keeps_plaintext),
        exchanges=exchanges,
        metrics=metrics,
    )
    # A stream that has begun may last as long as the upstream lets it.
    retirement = Retirement([clients.retire, side_port.stop_accepting], settings.vllm_proxy_timeout_secs)
    logger.info("signing as %s (ecdsa) and %s (ed25519)", keys.ecdsa_address, keys.ed25519_address)
    if settings.dev:
        logger.warning("DEV=1: the keys are random and nothing vouches for them")
    if settings.keeps_plaintext:
        logger.warning(
            "prompts and answers stay in flows, which mitmweb shows and -w saves; INSPECT_PLAINTEXT=0 ends that"
        )
    chain = [
        LogPrivacy(),
        clients,
        ReverseProxy(limits, settings.vllm_proxy_max_keepalive, signer),
        Drain(settings.drain_seconds, draining, router, retirement if inheritance.number else None),
        ProofPages(app, side_port, router, closing=[desk.close, gpu.close, gpu_figures.close, store.close]),
        *([RateLimit(limiter)] if limiter else []),
        cors,
        gate,
        signer,
        UpstreamErrors(router),
        *([tracing] if tracing else []),
        observer,
        SampledGauges(
            {
                metrics.open_streams: observer.open_streams,
                metrics.connections: clients.count,
                metrics.store_size: store.__len__,
            }
        ),
    ]
    return chain if looked_at is None else looked_at.around(chain, signer, metrics, store, desk)


def _inspection(router: Router, exchanges: Exchanges, settings: Settings) -> "InspectionChain | None":
    """What shows flows to those who look at them, under the programs of mitmproxy's that have a list of flows."""
    view = ctx.master.addons.get("view")
    if view is None:
        return None
    from addons.inspection_chain import InspectionChain  # noqa: PLC0415  # nowhere else it is even loaded

    return InspectionChain(view, router, exchanges, settings)


def _tracing(settings: Settings, router: Router) -> Tracing | None:
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    try:
        return open_tracing(router, release())
    except TracingError as error:
        raise SettingsError([str(error)]) from None


def _client_connections(settings: Settings, inheritance: Inheritance) -> ClientConnections:
    most = inheritance.share_of(settings.max_connections)
    if (allowed := allow_open_files(2 * most + 256)) < 2 * most:
        logger.warning("MAX_CONNECTIONS %d needs twice as many open files; allowed are %d (ulimit -n)", most, allowed)
    timeouts = ClientTimeouts(
        head=settings.client_header_timeout_secs,
        body=settings.client_body_timeout_secs,
        idle=settings.client_idle_timeout_secs,
    )
    return ClientConnections(most, timeouts)


def _limiter(settings: Settings, inheritance: Inheritance) -> RateLimiter | None:
    if not settings.rate_limit_per_second:
        return None
    return RateLimiter(
        inheritance.share_of(settings.rate_limit_per_second),
        inheritance.share_of(settings.rate_limit_burst_size),
        trust_proxy=not settings.rate_limit_no_trust_proxy,
    )


addons = [TeeSigner()]
