"""One request and its answer, as mitmproxy carries them, but for the few things that a proxy for APIs does otherwise.

Beside what `addons.layers.request_stream` does:

- What an upstream's answer says of its own connection and address goes no further.
- A request whose attempt has failed before a byte of its response is sent again where the upstream policy says so.
- The end of a signed answer waits until others can look up its signature.
- An upstream that changes the protocol gives 502, unless it is the answer to a WebSocket handshake.
- An upstream that answers before it has the whole request is heard, and the rest of the request falls.

By subclassing, as in `addons.layers.http_layer`, which makes these streams.
"""

from functools import partial

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from addons.bodies.signing_filter import AwaitedTap, ResponseTap
from addons.exchange.attempt import AttemptOutcome, Target
from addons.layers.layer_config import LayerConfig
from addons.layers.request_stream import ApiRequestStream, HttpLayerCallbacks
from addons.layers.upstream_failure import UpstreamFailure, outcome_of
from addons.layers.websocket.layer import SignedWebsocketLayer, WebsocketSigner
from addons.messages.response_head import for_next_hop
from addons.messages.websocket_handshake import answer_problem
from addons.signing.store_hook import StoringHook
from addons.upstream.target import direct


class ApiHttpStream(ApiRequestStream):
    """One request and its answer."""

    def __init__(
        self,
        context: Context,
        stream_id: int,
        limits: LayerConfig,
        signer: WebsocketSigner,
        owner: HttpLayerCallbacks,
    ) -> None:
        """Make the stream.

        Args:
            context: As for `HttpStream`.
            stream_id: As for `HttpStream`.
            limits: What to hold the request to.
            signer: Signs what follows, where the request opens a WebSocket.
            owner: Has made it.
        """
        super().__init__(context, stream_id, limits, owner)
        self._signer = signer

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """Take the upstream's response head."""
        self.deadline = None
        self._sent_body = None
        self._held.release()
        if self._attempt is not None:
            self._attempt.status = event.response.status_code
        problem = answer_problem(self.flow.request, event.response) if event.response.status_code == 101 else None
        if problem is None:
            # A copy: by the original, the upstream's connection is closed or kept.
            answer = for_next_hop(event.response, self.flow.request, self._asked)
            head = ResponseHeaders(event.stream_id, answer, event.end_stream)
            yield from super().state_wait_for_response_headers(head)
            return
        yield commands.CloseConnection(self.context.server)
        yield from self.handle_protocol_error(UpstreamFailure(self.stream_id, problem, AttemptOutcome.INVALID))

    def flow_done(self) -> layer.CommandGenerator[None]:
        """End an exchange; or, behind the handshake of a WebSocket, go on as one."""
        if self.flow.response is None or self.flow.response.status_code != 101:
            yield from super().flow_done()
            return
        self.end_attempt(AttemptOutcome.COMPLETED)
        self.child_layer = SignedWebsocketLayer(self.context, self.flow, self._signer)
        self._handle_event = self.passthrough  # type: ignore[method-assign]
        yield from self.child_layer.handle_event(events.Start())
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        """Begin to pass an answer on as it comes."""
        response = self.flow.response
        if response is not None and isinstance(response.stream, ResponseTap):
            response.stream.when_finished = partial(self._owner.last_event_came, self.stream_id)
        if response is not None and self.client_state == self.state_stream_request_body:
            response.headers["connection"] = "close"  # the client may be sending for a long time yet
        yield from super().start_response_stream()
        if response is not None and isinstance(response.stream, AwaitedTap):
            self.server_state = self.state_stream_response_body_and_wait
        if response is not None and isinstance(response.stream, ResponseTap) and self._goes_out_in_chunks(response):
            self._owner.enable_fast_path(self.flow.server_conn, response.stream)

    @property
    def is_left_open(self) -> bool:
        """Whether the last event of the answer is still the last that has come, and the answer has not ended."""
        tap = self.flow.response.stream if self.flow.response is not None else None
        return isinstance(tap, ResponseTap) and tap.is_left_open

    @property
    def may_end(self) -> bool:
        """Whether the answer is whole, for the client too, if it ends with what has come of it."""
        tap = self.flow.response.stream if self.flow.response is not None else None
        return isinstance(tap, ResponseTap) and not tap.has_size

    def _goes_out_in_chunks(self, response: http.Response) -> bool:
        """Whether a body goes out in the chunks in which it comes, and nobody else wants to see it."""
        return (
            self.client_state == self.state_done
            and self.flow.request.http_version != "HTTP/1.0"  # to which no chunks are sent
            and response.headers.get("transfer-encoding", "").lower() == "chunked"
            and not self.context.options.store_streamed_bodies
            and self.debug is None
        )

    def state_stream_response_body_and_wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Pass a body as it comes, and its end when the signature is stored."""
        if isinstance(event, ResponseEndOfMessage) and self.flow.response:
            tap = self.flow.response.stream
            if isinstance(tap, AwaitedTap) and (stored := tap.finish()) is not None:
                yield StoringHook(stored)
        yield from self.state_stream_response_body(event)

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        """End an answer; and, where the request has not come to its end, the request too."""
        self.end_attempt(AttemptOutcome.COMPLETED)
        yield from super().send_response(already_streamed)
        if self.server_state == self.state_done and self.client_state == self.state_stream_request_body:
            # mitmproxy would keep the end of the answer until then.
            self.client_state = self.server_state = self.state_errored
            self.flow.live = False
            yield DropStream(self.stream_id)
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
            unneeded = RequestProtocolError(
                self.stream_id, "the answer came before the request's end", ErrorCode.CANCEL
            )
            yield SendHttp(unneeded, self.context.server)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        """Tell whom it concerns; but first ask whether the request is to be sent again."""
        self.end_attempt(outcome_of(event) if isinstance(event, ResponseProtocolError) else AttemptOutcome.ABANDONED)
        if isinstance(event, UpstreamFailure) and (target := self._target_of_retry()) is not None:
            yield from self._send_request_again(target)
        else:
            self.deadline = None
            self._sent_body = None
            self.request_body_buf.clear()
            self._held.release()
            if isinstance(event, RequestProtocolError):
                self._limits.client_left(self.flow)
            yield from super().handle_protocol_error(event)

    def _target_of_retry(self) -> Target | None:
        if self.client_state != self.state_done or self.server_state != self.state_wait_for_response_headers:
            return None
        # A body that has streamed through is gone, and a head that promises it cannot be sent alone.
        body = None if self._sent_body is None and self._streamed else self._sent_body or b""
        return self._limits.upstreams.retry(self._limits.exchanges.of(self.flow), self.flow.request, body)

    def _send_request_again(self, target: Target) -> layer.CommandGenerator[None]:
        # Another idle connection may have ended at the same moment.
        self.needs_new_connection = True
        if self._attempt is not None and target != self._attempt.target:
            self._limits.exchanges.of(self.flow).target = target
            direct(self.flow.request, target)
        ok = yield from self.make_server_connection()
        if not ok:
            return
        body = self._sent_body
        yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, not body), self.context.server)
        if body:
            yield SendHttp(RequestData(self.stream_id, body), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)
