"""Sends a request again if an attempt failed before the first byte of a response and the upstream policy agrees."""

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseProtocolError,
)

from addons.exchange.attempt import AttemptOutcome, Target
from addons.layers.stream.request_body import RequestBodyStream
from addons.layers.upstream_failure import UpstreamFailure, outcome_of
from addons.upstream.target import direct


class RetryStream(RequestBodyStream):
    """A stream that may make more than one attempt."""

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        """Handle an error: send the request again if the policy says so, otherwise pass the error to the other side."""
        self.end_attempt(outcome_of(event) if isinstance(event, ResponseProtocolError) else AttemptOutcome.ABANDONED)
        if isinstance(event, UpstreamFailure) and (target := self._target_of_retry()) is not None:
            yield from self._send_request_again(target)
        else:
            self.deadline = None
            self._sent_body = None
            self._forget_body()
            if isinstance(event, RequestProtocolError):
                self._config.exchanges.of(self.flow).left_by_client = True
            yield from super().handle_protocol_error(event)

    def _target_of_retry(self) -> Target | None:
        if self.client_state != self.state_done or self.server_state != self.state_wait_for_response_headers:
            return None
        # A streamed body that was not kept cannot be sent again.
        body = None if self._sent_body is None and self._streamed else self._sent_body or b""
        return self._config.upstreams.retry(self._config.exchanges.of(self.flow), self.flow.request, body)

    def _send_request_again(self, target: Target) -> layer.CommandGenerator[None]:
        # Other idle connections may have been closed at the same time.
        self.needs_new_connection = True
        if self._attempt is not None and target != self._attempt.target:
            self._config.exchanges.of(self.flow).target = target
            direct(self.flow.request, target)
        ok = yield from self.make_server_connection()
        if not ok:
            return
        body = self._sent_body
        yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, not body), self.context.server)
        if body:
            yield SendHttp(RequestData(self.stream_id, body), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)
