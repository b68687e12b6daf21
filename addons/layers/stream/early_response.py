"""Responses before the end of the request, the rest of which is read and dropped.

- A response that an addon sets by the request's headers is sent at once.
- A request that is rejected in the middle of its body, as too large or for lack of memory, gets its response at once.
- An upstream response that ends before the request is sent at once, and the upstream's connection is released.
"""

import time

from mitmproxy import http
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHook

from addons.exchange.attempt import AttemptOutcome
from addons.layers.stream.base import BaseStream


class EarlyResponseStream(BaseStream):
    """A stream that can send a response in the middle of the request."""

    def _respond_early(self, response: http.Response) -> layer.CommandGenerator[None]:
        """Send a response in the middle of the request."""
        response.headers["connection"] = "close"  # the client may still be sending for a long time
        self.client_state = self.state_errored
        self.server_state = self.state_errored
        response.timestamp_start = response.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.flow.live = False
        yield DropStream(self.stream_id)
        yield SendHttp(ResponseHeaders(self.stream_id, response), self.context.client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _reject(self, response: http.Response) -> layer.CommandGenerator[None]:
        """Reject a request of which nothing has been sent to an upstream."""
        self._forget_body()
        self.flow.response = response
        yield from self._respond_early(response)

    def _reject_streamed(self, response: http.Response) -> layer.CommandGenerator[None]:
        """Reject a request that is being forwarded already."""
        self.end_attempt(AttemptOutcome.ABANDONED)
        self.request_body_buf.clear()
        yield SendHttp(RequestProtocolError(self.stream_id, "given up", ErrorCode.CANCEL), self.context.server)
        if self.server_state == self.state_wait_for_response_headers:
            self.deadline = None
            yield from self._reject(response)
        else:  # the upstream's response has begun, so no other one can be sent
            error = ResponseProtocolError(self.stream_id, "the request was given up", ErrorCode.KILL)
            yield from super().handle_protocol_error(error)

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        """End a response, and the request as well if it has not ended."""
        self.end_attempt(AttemptOutcome.COMPLETED)
        yield from super().send_response(already_streamed)
        if self.server_state == self.state_done and self.client_state == self.state_stream_request_body:
            # mitmproxy would delay the end of the response until the end of the request.
            self.client_state = self.server_state = self.state_errored
            self.flow.live = False
            yield DropStream(self.stream_id)
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
            unneeded = RequestProtocolError(self.stream_id, "the response ended before the request", ErrorCode.CANCEL)
            yield SendHttp(unneeded, self.context.server)
