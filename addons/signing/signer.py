"""Signs exchanges: sets hashing pipelines on request and response, signs the pair of hashes, and stores the result."""

import asyncio
import logging
import re
import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass

from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size

from addons.bodies.body_reader import BodyReader, RawBodyReader
from addons.bodies.end_detector import EndDetector
from addons.bodies.labelled_json import LabelledJsonReader
from addons.bodies.request_body import is_json_object, request_pipeline
from addons.bodies.signing_filter import SigningFilter
from addons.bodies.stream_formats import EVENT_FORMATS
from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route
from addons.exchange.token_times import TokenTimes
from addons.messages.content_coding import is_not_encoded
from addons.messages.responses import error_response, reject
from addons.signing.stored_id import stored_id
from attest_web.keys import SigningKeys
from attest_web.metrics import BETWEEN_TOKENS, Metrics
from attest_web.signatures import sign_text, signed_text
from attest_web.stores.signature_store import RECEIPT_PREFIX, SignatureStore
from attest_web.stores.write_behind import STORE_WAIT

logger = logging.getLogger(__name__)

_READ_UNTIL_CLOSE = -1
"""mitmproxy's size of a body that ends with its connection."""

_NO_END = "nothing tells the end of the answer from a broken connection"


@dataclass(frozen=True)
class SigningRules:
    """How exchanges are signed.

    Attributes:
        model: Model name to put in front of the signed text; None for none.
        allow_request_hash_header: Whether a client's `X-Request-Hash` replaces the hash of the request body.
        keeps_plaintext: Whether prompts stay in the flows after they have been forwarded.
    """

    model: str | None = None
    allow_request_hash_header: bool = False
    keeps_plaintext: bool = False


class Signer:
    """Signs finished exchanges of the signed routes.

    If a signature cannot be made, the response is sent without one, and the signature page reports that; the failure is
    counted and logged.

    Attributes:
        keys: The signing keys.
    """

    def __init__(
        self,
        keys: SigningKeys,
        store: SignatureStore,
        rules: SigningRules,
        *,
        exchanges: Exchanges,
        metrics: Metrics,
    ) -> None:
        """Make a signer.

        Args:
            keys: The signing keys.
            store: The store of signatures.
            rules: How exchanges are signed.
            exchanges: The records in which the outcomes are noted.
            metrics: Observe the time that signing takes, and count response ids that were used before.
        """
        self.keys = keys
        self._store = store
        self._rules = rules
        self._exchanges = exchanges
        self._metrics = metrics

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Prepare to hash the body. Request no content coding, so that the client decodes the hashed bytes."""
        exchange = self._exchanges.of(flow)
        if flow.response is not None or flow.error is not None or exchange.route.kind is not Kind.SIGNED:
            return
        if self._rules.allow_request_hash_header and (given := flow.request.headers.get("x-request-hash")):
            if not re.fullmatch(r"[0-9a-fA-F]{64}", given):
                reject(flow, 400, "X-Request-Hash must be a SHA-256 in 64 hex digits.")
                return
            exchange.given_sha256 = given.lower()
        flow.request.headers["accept-encoding"] = "identity"
        pipeline = exchange.request_body = request_pipeline(
            is_json=exchange.route.is_json,
            drops_tool_calls=exchange.route.drops_tool_calls and is_not_encoded(flow.request),
            content_length=flow.request.headers.get("content-length"),
            is_replay=flow.is_replay is not None,
        )
        if flow.request.stream:
            flow.request.stream = pipeline

    def request(self, flow: http.HTTPFlow) -> None:
        """End the pipeline of a request without a body; check a body that was held."""
        exchange = self._exchanges.of(flow)
        if exchange.request_body is None or flow.response is not None:
            return
        if flow.request.raw_content == b"":
            exchange.request_body(b"")
        if flow.request.stream:
            return
        body = flow.request.raw_content or b""
        if exchange.route.is_json and is_not_encoded(flow.request) and not is_json_object(body):
            flow.response = error_response(400, "The request body must be a JSON object.", flow.request)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Set the signing filter on a response that is to be signed; stream the response in any case."""
        self._forget_request(flow)  # it has been forwarded or rejected
        response = flow.response
        if response is None or response.raw_content is not None:  # made here
            return
        exchange, request = self._exchanges.of(flow), flow.request
        request_body, exchange.request_body = exchange.request_body, None
        if response.status_code == 101:
            # A WebSocket is signed when it has been closed.
            _begin(exchange, response)
            return
        response.stream = True
        if request_body is None:
            return
        size = _body_size(request, response)
        reader = _reader_for(exchange.route, response, size)
        if isinstance(reader, str):
            exchange.leave_unsigned(reader)
            return
        _begin(exchange, response)
        exchange.response_reader = reader

        def sign(response_body: SigningFilter) -> Future[None] | None:
            exchange.usage, exchange.chat_id = reader.usage, stored_id(request, reader.id)
            if size == _READ_UNTIL_CLOSE and not reader.finished:
                exchange.leave_unsigned(_NO_END)
                return None
            if exchange.changed:
                exchange.leave_unsigned("the request was changed here after it was received")
                return None
            if not request_body.complete:
                exchange.leave_unsigned("the answer ended before the request did")
                return None
            request_sha256, exchange.forwarded_sha256 = request_body.digests
            exchange.upstream_sha256, response_sha256 = response_body.digests
            return self._sign(exchange, exchange.given_sha256 or request_sha256, response_sha256)

        if isinstance(reader, EndDetector):
            exchange.times = TokenTimes(BETWEEN_TOKENS)
        known_size = size if size != _READ_UNTIL_CLOSE else None
        response.stream = SigningFilter(reader, sign, known_size, exchange.times, durable=self._store.shared)

    async def storing(self, stored: Future[None]) -> None:
        """Delay the end of a response until its signature is stored, for at most `STORE_WAIT` seconds."""
        await asyncio.wait([asyncio.wrap_future(stored)], timeout=STORE_WAIT)

    def error(self, flow: http.HTTPFlow) -> None:
        """Note that an exchange was cut short, and free its request body."""
        self._forget_request(flow)
        exchange = self._exchanges.of(flow)
        exchange.request_body = None
        if exchange.route.kind is Kind.SIGNED:
            if exchange.response_reader is not None:
                exchange.chat_id = stored_id(flow.request, exchange.response_reader.id)
            exchange.leave_unsigned("the exchange was cut short")

    def done(self) -> None:
        """Free the bodies of requests under way, before an addon saves the flows."""
        for flow in self._exchanges.flows():
            if self._exchanges.of(flow).request_body is not None:
                self._forget_request(flow)

    def sign_websocket(self, flow: http.HTTPFlow, client_sha256: str, server_sha256: str) -> Future[None] | None:
        """Sign the payloads of both directions of a WebSocket, and store the signatures under its receipt id."""
        return self._sign(self._exchanges.of(flow), client_sha256, server_sha256)

    def leave_websocket(self, flow: http.HTTPFlow, reason: str) -> None:
        """Note why a WebSocket is not signed."""
        self._exchanges.of(flow).leave_unsigned(reason)

    def _forget_request(self, flow: http.HTTPFlow) -> None:
        if not self._rules.keeps_plaintext:
            flow.request.content = None

    def _sign(self, exchange: Exchange, request_sha256: str, response_sha256: str) -> Future[None] | None:
        exchange.request_sha256, exchange.response_sha256 = request_sha256, response_sha256
        try:
            self._sign_and_store(exchange, signed_text(request_sha256, response_sha256, self._rules.model))
            exchange.state = "signed"
            return self._store.storing()
        except Exception as error:
            logger.error("a chat goes on unsigned, signing failed: %s", type(error).__name__, exc_info=error)
            exchange.state, exchange.reason = "failed", "signing failed"
            return None

    def _sign_and_store(self, exchange: Exchange, text: str) -> None:
        began = time.perf_counter()
        signed = sign_text(self.keys, text)
        self._metrics.signing.observe(time.perf_counter() - began)
        ids = [one for one in (exchange.chat_id, exchange.receipt_id) if one is not None]
        is_free = self._store.put(ids[0], signed, exchange.credential, *ids[1:])
        exchange.signed = signed
        if not is_free:
            self._metrics.conflicts.inc()
            logger.warning(
                "a response id was used before; this exchange can be found by its receipt %s", exchange.receipt_id
            )


def _begin(exchange: Exchange, response: http.Response) -> None:
    exchange.state = "pending"
    exchange.receipt_id = response.headers["x-receipt-id"] = RECEIPT_PREFIX + secrets.token_hex(12)


def _body_size(request: http.Request, response: http.Response) -> int | None:
    """Bytes of the response body; None if it is chunked, `_READ_UNTIL_CLOSE` if it ends with the connection."""
    try:
        return expected_http_body_size(request, response)
    except ValueError:  # mitmproxy is about to reject it
        return _READ_UNTIL_CLOSE


def _reader_for(route: Route, response: http.Response, size: int | None) -> BodyReader | str:
    """The reader for a response, or the reason why it is not to be signed."""
    if not 200 <= response.status_code < 300:
        return "the upstream answered with an error"
    if not is_not_encoded(response):
        return "the upstream encoded its answer although identity was asked for"
    if response.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        return "the upstream's transfer encoding is not only chunked"
    if size == 0:
        return "the answer is empty"
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return EndDetector(EVENT_FORMATS[route.stream_format])
    if media_type != "application/json" and not route.signs_any_type:
        return "the answer is neither JSON nor an event stream"
    return (
        LabelledJsonReader(EVENT_FORMATS[route.stream_format]) if media_type == "application/json" else RawBodyReader()
    )
