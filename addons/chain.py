"""The composition root: makes the chain of addons by the settings, and passes their dependencies."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import ctx, http

from addons.access.body_budget import BodyBudget
from addons.access.client_addresses import ClientAddresses
from addons.access.client_deadline import ClientTimeouts
from addons.access.connection_limit import ConnectionLimit, quarter_of
from addons.access.cors import Cors
from addons.access.gate import Gate
from addons.access.rate_limit import RateLimit
from addons.access.refusal_limit import RefusalLimit
from addons.exchange.exchanges import Exchanges
from addons.layers.connections.client_connections import ClientConnections, Ports
from addons.layers.connections.client_tls import PreferHttp2
from addons.layers.http2.goaway import PING_TIMEOUT
from addons.layers.layer_config import ClientStates, LayerConfig, RequestBodyPolicy
from addons.layers.reverse_proxy import ReverseProxy
from addons.layers.websocket.revocation import Revocation
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.lifecycle.drain import Drain, GracefulExit
from addons.lifecycle.open_files import allow_open_files
from addons.lifecycle.served_certificate import ServedCertificate
from addons.lifecycle.tcp_keepalive import TcpKeepalive
from addons.lifecycle.worker_context import WorkerContext
from addons.observability.log_queue import LogQueue
from addons.observability.log_redaction import LogPrivacy
from addons.observability.observer import Observer
from addons.observability.request_log import log_request
from addons.observability.sampled_gauges import SampledGauges
from addons.observability.tracing import Tracing, TracingError, open_tracing
from addons.pages.attestation_pages import AttestationPages
from addons.pages.management_server import ManagementServer
from addons.pages.services import make_services
from addons.routing.routes import Router, body_sizes
from addons.signing.signer import Signer, SigningRules
from addons.signing.unsigned_marks import UnsignedMarks
from addons.upstream.address import override_problems, side_port_problems, upstream_base_url, upstream_tls
from addons.upstream.errors import UpstreamErrors
from addons.upstream.probe import UpstreamProbe
from addons.upstream.selection import UpstreamSelection
from addons.upstream.single import SingleUpstream, endpoint_overrides
from attest_web.middleware.cors import CorsPolicy
from attest_web.settings import Settings, SettingsError
from attest_web.version import release

if TYPE_CHECKING:
    from addons.inspection.chain import InspectionChain

logger = logging.getLogger(__name__)

SIDE_PORT_LEAST: Final = 64
"""Least limit of connections at the side port, even if the proxied port's is lower: it serves probes and scrapes."""


def make_chain(settings: Settings, worker_context: WorkerContext) -> Sequence[Any]:
    """Make the chain of addons, in the order in which a request passes them.

    Args:
        settings: The settings.
        worker_context: What the worker received from its supervisor.

    Raises:
        SettingsError: An address is wrong, the keys cannot be made, or the side port cannot be opened.
    """
    overrides = endpoint_overrides(settings)
    problems = side_port_problems(ctx.options, settings.attest_port) + override_problems(ctx.options, overrides)
    if problems:
        raise SettingsError(problems)
    probe = UpstreamProbe(upstream_base_url(ctx.options.mode), upstream_tls(ctx.options))
    services = make_services(settings, worker_context, probe, ctx.options.listen_host)
    store, metrics, keys = services.store, services.metrics, services.keys
    exchanges = Exchanges(Router(services.side_port.accepted).route_of)
    upstreams = SingleUpstream(overrides)
    cors = Cors(CorsPolicy(settings.cors_origins))
    gate = Gate(services.tokens, body_sizes(settings), exchanges)
    addresses = ClientAddresses(trust_proxy=not settings.rate_limit_no_trust_proxy)
    rate_limit = RateLimit(services.limiter, addresses) if services.limiter else None
    proxyserver = ctx.master.addons.get("proxyserver")
    handlers = ConnectionHandlers(proxyserver.connections)
    clients = _client_connections(settings, worker_context, services.side_port, addresses, handlers)
    tracing = _tracing(settings, exchanges)
    listeners = [UnsignedMarks(store).tell, log_request, *([tracing.tell] if tracing else [])]
    observer = Observer(exchanges, metrics, listeners)

    def add_standard_headers(request: http.Request | None, answer: http.Response) -> None:
        cors.add_headers(request, answer)
        if request is None:
            observer.count_unreadable(answer.status_code)

    inspection = _inspection(exchanges, settings)
    config = LayerConfig(
        RequestBodyPolicy(
            gate.body_limit,
            BodyBudget(worker_context.share_of(settings.max_buffered_body_bytes)),
            keeps_plaintext=settings.keeps_plaintext,
            redacted_bodies=inspection.inspection if inspection is not None else None,
        ),
        ClientStates(
            clients.deadline_of,
            handlers.has_pending_writes,
            handlers.waiting_for,
            **({"unreadable": rate_limit.unreadable} if rate_limit else {}),
        ),
        upstreams,
        settings.vllm_proxy_timeout_secs,
        exchanges,
        add_standard_headers,
    )
    signer = Signer(
        keys,
        store,
        SigningRules(settings.signed_model, settings.allow_request_hash_header, settings.keeps_plaintext),
        exchanges=exchanges,
        metrics=metrics,
    )
    # A stream that has begun may last as long as the upstream lets it.
    retirement = GracefulExit([clients.retire, services.side_port.stop_accepting], settings.vllm_proxy_timeout_secs)
    logger.info("signing as %s (ecdsa) and %s (ed25519)", keys.ecdsa_address, keys.ed25519_address)
    if settings.dev:
        logger.warning("DEV=1: the keys are random and nothing vouches for them")
    if settings.keeps_plaintext and _may_save_flows():
        logger.warning(
            "prompts and answers stay in flows, which mitmweb shows and -w saves; INSPECT_PLAINTEXT=0 ends that"
        )
    log_queue = LogQueue()
    chain = [
        log_queue,
        LogPrivacy(),
        clients,
        TcpKeepalive(settings.tcp_keepalive_idle_secs, settings.tcp_user_timeout_secs, handlers),
        PreferHttp2(),
        ReverseProxy(
            config,
            settings.vllm_proxy_max_keepalive,
            signer,
            handlers,
            is_plain=services.side_port.accepted,
            idle_timeout=settings.vllm_proxy_pool_idle_timeout_secs,
        ),
        Drain(
            settings.drain_seconds,
            services.draining,
            exchanges,
            services.side_port,
            handlers,
            retirement=retirement if worker_context.number else None,
            retire_http2=clients.retire_http2,
            goaway_timeout=PING_TIMEOUT,
        ),
        services.side_port,
        AttestationPages(services.app, exchanges, addresses, closing=services.closing),
        *([rate_limit] if rate_limit else []),
        RefusalLimit(exchanges, clients.close_soon),
        cors,
        gate,
        UpstreamSelection(upstreams, exchanges),
        Revocation(services.tokens, exchanges, proxyserver.inject_event),
        signer,
        UpstreamErrors(exchanges),
        *([tracing] if tracing else []),
        *([ServedCertificate(services.tls_file)] if services.tls_file else []),
        *([services.tls_key] if services.tls_key else []),
        observer,
        SampledGauges(
            {
                metrics.open_streams: exchanges.open_streams,
                metrics.connections: clients.count,
                metrics.store_size: store.__len__,
                metrics.log_dropped: log_queue.dropped,
            }
        ),
    ]
    return chain if inspection is None else inspection.around(chain, signer, metrics, store, services.report_cache)


def _may_save_flows() -> bool:
    """Whether this is one of mitmproxy's own programs: all of them can save flows, and some list them."""
    return ctx.master.addons.get("save") is not None


def _inspection(exchanges: Exchanges, settings: Settings) -> "InspectionChain | None":
    """The inspection, for those of mitmproxy's programs that have a list of flows; None for others."""
    view = ctx.master.addons.get("view")
    if view is None:
        return None
    from addons.inspection.chain import InspectionChain  # noqa: PLC0415  # loaded only where it is needed

    return InspectionChain(view, exchanges, settings)


def _tracing(settings: Settings, exchanges: Exchanges) -> Tracing | None:
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    try:
        return open_tracing(exchanges, release())
    except TracingError as error:
        raise SettingsError([str(error)]) from None


def _client_connections(
    settings: Settings,
    worker_context: WorkerContext,
    side_port: ManagementServer,
    addresses: ClientAddresses,
    handlers: ConnectionHandlers,
) -> ClientConnections:
    most = worker_context.share_of(settings.max_connections)
    at_side_port = max(SIDE_PORT_LEAST, quarter_of(most))
    share: int | None = quarter_of(most)
    side_share: int | None = quarter_of(at_side_port)
    if settings.max_connections_per_client == 0:
        share = side_share = None
    elif settings.max_connections_per_client is not None:
        share = worker_context.share_of(settings.max_connections_per_client)
    ports = Ports(
        ConnectionLimit("MAX_CONNECTIONS", most, share),
        ConnectionLimit("the side port's quarter of MAX_CONNECTIONS", at_side_port, side_share),
        side_port.accepted,
        addresses.sharer_of_peer,
    )
    if (allowed := allow_open_files(2 * most + at_side_port + 256)) < 2 * most:
        logger.warning("MAX_CONNECTIONS %d needs twice as many open files; allowed are %d (ulimit -n)", most, allowed)
    timeouts = ClientTimeouts(
        head=settings.client_header_timeout_secs,
        body=settings.client_body_timeout_secs,
        idle=settings.client_idle_timeout_secs,
        body_rate=settings.client_body_min_rate,
        whole_body=settings.client_body_deadline_secs,
    )
    return ClientConnections(ports, timeouts, handlers)
