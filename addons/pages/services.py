"""Makes the services behind the pages by the settings: keys, store, attestation, the pages and their side port."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pynvml
from prometheus_client import ProcessCollector

from addons.lifecycle.attested_tls_key import AttestedTlsKey
from addons.lifecycle.worker_context import WorkerContext
from addons.pages.management_server import ManagementServer
from attest_web.attestation.report_cache import ReportCache
from attest_web.attestation.reports import Attestation
from attest_web.attestation.tls_fingerprint import TlsFingerprint
from attest_web.dstack.guest_agent import Dstack, DstackError
from attest_web.dstack.key_chain import KeyChains
from attest_web.dstack.served_tls import make_tls_file
from attest_web.gpu.evidence import GpuEvidenceWorker, find_gpu_python
from attest_web.gpu.metrics import GpuFigures
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.middleware.auth import Tokens
from attest_web.middleware.rate_limit import RateLimiter
from attest_web.pages.app import AppDependencies, create_app
from attest_web.process.listening import listen
from attest_web.process.memory_file import MemoryFile
from attest_web.setting_values import split_tokens
from attest_web.settings import Settings, SettingsError
from attest_web.store_address import MemoryAddress
from attest_web.stores.factory import open_store
from attest_web.stores.signature_store import SignatureStore
from attest_web.version import checkout_revision, release

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Services:
    """The services that signing and the pages need.

    Attributes:
        keys: The signing keys.
        tokens: The bearer tokens of clients.
        store: The store of signatures.
        metrics: This proxy's metrics.
        report_cache: Returns attestation reports.
        app: The pages, as a WSGI application.
        side_port: The server of the side port, which has only the pages.
        limiter: The rate limit of each client; None if there is no limit.
        draining: Set when the proxy begins to drain.
        tls_file: Key and certificate chain to serve TLS with, in PEM. None leaves that to mitmproxy's options.
        tls_key: The key of `TLS_CERT_PATH`, which reports bind; None if that is not set.
        closing: Functions that are called when the proxy stops.
    """

    keys: SigningKeys
    tokens: Tokens
    store: SignatureStore
    metrics: Metrics
    report_cache: ReportCache
    app: "WSGIApplication"
    side_port: ManagementServer
    limiter: RateLimiter | None
    draining: threading.Event
    tls_file: MemoryFile | None
    tls_key: AttestedTlsKey | None
    closing: Sequence[Callable[[], None]]


def make_services(
    settings: Settings, worker_context: WorkerContext, upstream_answers: Callable[[], bool], listen_host: str
) -> Services:
    """Make the services.

    Args:
        settings: The settings.
        worker_context: What this worker received from its supervisor.
        upstream_answers: Whether the upstream responds; may block for a few seconds.
        listen_host: Address of the side port; empty for all addresses of this machine.

    Raises:
        SettingsError: The keys, those of TLS included, cannot be made, or the side port cannot be opened.
    """
    dstack = Dstack(info_lifetime=settings.attestation_cache_ttl)
    keys, chains = _keys(settings, worker_context, dstack)
    tls_file = None
    if settings.tls_from_dstack:
        tls_file = worker_context.tls_file or make_tls_file(settings, dstack)
    tokens = Tokens(split_tokens(settings.token))
    in_memory = isinstance(settings.signature_store, MemoryAddress)
    address = worker_context.store if worker_context.store is not None and in_memory else settings.signature_store
    metrics = Metrics(worker_context.metrics)
    store = open_store(
        address,
        settings.model_name,
        settings.chat_cache_expiration,
        metrics.conflicts.inc,
        lambda fault: metrics.store_faults.labels(fault).inc(),
    )
    gpu = GpuEvidenceWorker(settings.gpu_python or find_gpu_python(CHECKOUT), settings.gpu_no_hw_mode)
    tls_key = AttestedTlsKey(settings.tls_cert_path) if settings.tls_cert_path is not None else None
    attestation = Attestation(
        keys, settings.model_name, dstack, gpu.collect, settings.dev, metrics, chains, dstack.gpu_info
    )
    draining = threading.Event()
    report_cache = ReportCache(attestation.report, settings.attestation_cache_ttl, metrics)
    gpu_figures = GpuFigures(pynvml)
    app = create_app(
        AppDependencies(
            tokens=tokens,
            store=store,
            upstream_answers=upstream_answers,
            draining=draining.is_set,
            attestation=attestation,
            report_cache=report_cache,
            tls_fingerprint=TlsFingerprint(tls_file.path) if tls_file is not None else tls_key,
            attestation_public=settings.attestation_public,
            trust_proxy=not settings.rate_limit_no_trust_proxy,
            metrics=metrics,
            machine=[gpu_figures] if worker_context.workers > 1 else [gpu_figures, ProcessCollector(registry=None)],
            model_name=settings.model_name,
            release=release(),
            git_revision=settings.git_revision or checkout_revision(),
            source_url=settings.source_url,
        )
    )
    limiter = _limiter(settings, worker_context)
    try:
        side_port = ManagementServer(worker_context.side_listener or listen(listen_host, settings.attest_port))
    except OSError as error:
        problem = f"ATTEST_PORT {settings.attest_port} cannot be opened: {error.strerror}. Free it or set another"
        raise SettingsError([problem]) from None
    return Services(
        keys=keys,
        tokens=tokens,
        store=store,
        metrics=metrics,
        report_cache=report_cache,
        app=app,
        side_port=side_port,
        limiter=limiter,
        draining=draining,
        tls_file=tls_file,
        tls_key=tls_key,
        closing=[report_cache.close, gpu.close, gpu_figures.close, store.close],
    )


def _keys(settings: Settings, worker_context: WorkerContext, dstack: Dstack) -> tuple[SigningKeys, KeyChains]:
    if worker_context.keys is not None or settings.dev:
        return worker_context.keys or SigningKeys.random(), KeyChains()
    try:
        of_app = dstack.signing_keys(settings.model_name)
    except DstackError as error:
        raise SettingsError([f"{error}. Without a TEE, DEV=1 signs with random keys"]) from None
    return of_app.keys, of_app.chains


def _limiter(settings: Settings, worker_context: WorkerContext) -> RateLimiter | None:
    if not settings.rate_limit_per_second:
        return None
    return RateLimiter(
        worker_context.share_of(settings.rate_limit_per_second),
        worker_context.share_of(settings.rate_limit_burst_size),
    )
