"""The body of a response, and its end, which is delayed until the signature is stored."""

from functools import partial

from mitmproxy import http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http._events import ResponseEndOfMessage

from addons.bodies.pipeline import pipeline_in
from addons.layers.stream.retry import RetryStream
from addons.messages.framing import frame_by_chunks
from addons.signing.store_hook import StoringHook


class ResponseEndStream(RetryStream):
    """A stream that sends its response on as it arrives, except for the end, which is held back."""

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        """Start to send a response on as it arrives."""
        response = self.flow.response
        pipeline = pipeline_in(response.stream) if response is not None else None
        if response is not None and pipeline is not None:
            pipeline.when_finished = partial(self._owner.last_event_came, self.stream_id)
            if pipeline.changes_length:
                frame_by_chunks(response.headers)
        if response is not None and self.client_state == self.state_stream_request_body:
            response.headers["connection"] = "close"  # the client may still be sending for a long time
        yield from super().start_response_stream()
        if response is None or pipeline is None:
            return
        if pipeline.durable:
            self.server_state = self.state_stream_response_body_and_wait
        if pipeline.may_pass_unread and self._goes_out_in_chunks(response):
            self._owner.enable_fast_path(self.flow.server_conn, pipeline)

    @property
    def is_left_open(self) -> bool:
        """Whether the last event of the response has arrived, and the response has not ended."""
        pipeline = pipeline_in(self.flow.response.stream) if self.flow.response is not None else None
        return pipeline is not None and pipeline.is_left_open

    @property
    def may_end(self) -> bool:
        """Whether the response is complete, also for the client, if it is ended now."""
        pipeline = pipeline_in(self.flow.response.stream) if self.flow.response is not None else None
        return pipeline is not None and not pipeline.has_size

    def _goes_out_in_chunks(self, response: http.Response) -> bool:
        """Whether a body is sent in the chunks in which it arrives, and is not kept in the flow."""
        return (
            self.client_state == self.state_done
            and self.flow.request.http_version != "HTTP/1.0"  # which has no chunked coding
            and response.headers.get("transfer-encoding", "").lower() == "chunked"
            and not self.context.options.store_streamed_bodies
            and self.debug is None
        )

    def state_stream_response_body_and_wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Send a body on as it arrives, and its end when the signature is stored."""
        if isinstance(event, ResponseEndOfMessage) and self.flow.response:
            pipeline = pipeline_in(self.flow.response.stream)
            if pipeline is not None and (stored := pipeline.finish()) is not None:
                yield StoringHook(stored)
        yield from self.state_stream_response_body(event)
