"""One request and its response: the complete stream, which handles the response's head.

Each part of the stream is a class that extends the one below it, down to mitmproxy's own `HttpStream`:

    ApiHttpStream        the response's head, and what follows the handshake of a WebSocket
    ResponseEndStream    the response's body, and its end, which waits for the signature
    RetryStream          a second attempt
    RequestBodyStream    the request's body: limits, memory, forwarding
    EarlyResponseStream  responses before the request's end
    BaseStream           the attempt and its deadline
"""

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import ResponseEndOfMessage, ResponseHeaders

from addons.exchange.attempt import AttemptOutcome
from addons.layers.layer_config import LayerConfig
from addons.layers.stream.base import HttpLayerCallbacks
from addons.layers.stream.response_end import ResponseEndStream
from addons.layers.upstream_failure import UpstreamFailure
from addons.layers.websocket.layer import SignedWebsocketLayer, WebsocketSigner
from addons.messages.response_head import for_next_hop
from addons.messages.websocket_handshake import response_problem


class ApiHttpStream(ResponseEndStream):
    """One request and its response."""

    def __init__(
        self,
        context: Context,
        stream_id: int,
        config: LayerConfig,
        signer: WebsocketSigner,
        owner: HttpLayerCallbacks,
    ) -> None:
        """Make the stream.

        Args:
            context: As for `BaseStream`.
            stream_id: As for `BaseStream`.
            config: As for `BaseStream`.
            signer: Signs the WebSocket, if the request opens one.
            owner: As for `BaseStream`.
        """
        super().__init__(context, stream_id, config, owner)
        self._signer = signer

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """Handle the upstream's response head. Fields about its own connection and address are not forwarded.

        A change of protocol gives 502, unless it is the response to a WebSocket handshake.
        """
        self.deadline = None
        self._sent_body = None
        self._held.release()
        if self._attempt is not None:
            self._attempt.status = event.response.status_code
        problem = response_problem(self.flow.request, event.response) if event.response.status_code == 101 else None
        if problem is None:
            # A copy: the original decides whether the upstream's connection is kept.
            response = for_next_hop(event.response, self.flow.request, self._client_url)
            head = ResponseHeaders(event.stream_id, response, event.end_stream)
            yield from super().state_wait_for_response_headers(head)
            return
        yield commands.CloseConnection(self.context.server)
        yield from self.handle_protocol_error(UpstreamFailure(self.stream_id, problem, AttemptOutcome.INVALID))

    def flow_done(self) -> layer.CommandGenerator[None]:
        """End an exchange; after the handshake of a WebSocket, continue with its layer."""
        if self.flow.response is None or self.flow.response.status_code != 101:
            yield from super().flow_done()
            return
        self.end_attempt(AttemptOutcome.COMPLETED)
        self.child_layer = SignedWebsocketLayer(self.context, self.flow, self._signer)
        self._handle_event = self.passthrough  # type: ignore[method-assign]
        yield from self.child_layer.handle_event(events.Start())
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
