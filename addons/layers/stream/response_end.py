"""The body of a response, and its end, which waits until the signature can be looked up."""

from functools import partial

from mitmproxy import http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http._events import ResponseEndOfMessage

from addons.bodies.pipeline import pipeline_in
from addons.layers.stream.retry import RetryStream
from addons.messages.framing import frame_by_chunks
from addons.signing.store_hook import StoringHook


class ResponseEndStream(RetryStream):
    """A stream that passes its response on as it comes, up to the end, which is held back."""

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        """Begin to pass a response on as it comes."""
        response = self.flow.response
        pipeline = pipeline_in(response.stream) if response is not None else None
        if response is not None and pipeline is not None:
            pipeline.when_finished = partial(self._owner.last_event_came, self.stream_id)
            if pipeline.changes_length:
                frame_by_chunks(response.headers)
        if response is not None and self.client_state == self.state_stream_request_body:
            response.headers["connection"] = "close"  # the client may be sending for a long time yet
        yield from super().start_response_stream()
        if response is None or pipeline is None:
            return
        if pipeline.durable:
            self.server_state = self.state_stream_response_body_and_wait
        if pipeline.may_pass_unread and self._goes_out_in_chunks(response):
            self._owner.enable_fast_path(self.flow.server_conn, pipeline)

    @property
    def is_left_open(self) -> bool:
        """Whether the last event of the response is still the last that has come, and the response has not ended."""
        pipeline = pipeline_in(self.flow.response.stream) if self.flow.response is not None else None
        return pipeline is not None and pipeline.is_left_open

    @property
    def may_end(self) -> bool:
        """Whether the response is whole, for the client too, if it ends with what has come of it."""
        pipeline = pipeline_in(self.flow.response.stream) if self.flow.response is not None else None
        return pipeline is not None and not pipeline.has_size

    def _goes_out_in_chunks(self, response: http.Response) -> bool:
        """Whether a body goes out in the chunks in which it comes, and is kept for no one else to see."""
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
            pipeline = pipeline_in(self.flow.response.stream)
            if pipeline is not None and (stored := pipeline.finish()) is not None:
                yield StoringHook(stored)
        yield from self.state_stream_response_body(event)
