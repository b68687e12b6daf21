"""The request body of a stream: limited, held in memory or forwarded as it arrives, and freed once it is forwarded.

- A body is rejected at the first byte above its limit.
- A body is held until it is complete if its pipeline has a `hold_limit`, up to that many bytes; a larger one is
  forwarded as it arrives. All held bytes count in one budget.
- The modifier (`flow.request.stream`) is called when bytes arrive, even if they then have to wait.
"""

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook

from addons.bodies.pipeline import pipeline_in
from addons.layers.layer_config import LayerConfig
from addons.layers.stream.base import HttpLayerCallbacks, ended
from addons.layers.stream.early_response import EarlyResponseStream
from addons.messages.responses import no_room, too_large


class _ModifiedData(RequestData):
    """A piece of a request body that has passed the modifier (`flow.request.stream`)."""


_OF_REQUESTS = frozenset({RequestHeaders, RequestData, _ModifiedData, RequestEndOfMessage})
_OF_RESPONSES = frozenset({ResponseHeaders, ResponseData, ResponseEndOfMessage})

MAX_KEPT = 64 * 1024
"""Bytes of a streamed body up to which it is kept for a second attempt."""


class RequestBodyStream(EarlyResponseStream):
    """A stream that handles the request body."""

    def __init__(self, context: Context, stream_id: int, config: LayerConfig, owner: HttpLayerCallbacks) -> None:
        """Make the stream.

        Args:
            context: As for `BaseStream`.
            stream_id: As for `BaseStream`.
            config: As for `BaseStream`.
            owner: As for `BaseStream`.
        """
        super().__init__(context, stream_id, config, owner)
        self._bodies = config.bodies
        self._streamed = 0
        """Received bytes of the body."""
        self._passes_on = False
        """Whether the body is forwarded as it arrives."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event, or queue it."""
        if type(event) is RequestData:
            before, self._streamed = self._streamed, self._streamed + len(event.data)
            if self._paused is not None:
                return ended(event) if before > self._bodies.limit(self.flow) else self._queue(event)
        return super().handle_event(event)

    def _queue(self, event: RequestData) -> layer.CommandGenerator[None]:
        """Queue a piece of a body. It is modified now, so that the work is not done all at once later."""
        if self._passes_on and self._streamed <= self._bodies.limit(self.flow):
            event = _ModifiedData(self.stream_id, self._modified(event.data))
        if not event.data or not self._held.add(len(event.data)):
            return ended(event)
        self._queued += len(event.data)
        return super().handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        kind = type(event)  # the most frequent events go to their states without a generator in between
        handling: layer.CommandGenerator[None]
        if kind in _OF_RESPONSES:
            handling = self.server_state(event)
        elif kind in _OF_REQUESTS:
            if self._queued and isinstance(event, RequestData):
                self._queued -= len(event.data)
                self._held.less(len(event.data))
            if kind is RequestEndOfMessage:  # later events need no check before they are queued
                self.handle_event = super().handle_event  # type: ignore[method-assign]
            handling = self.client_state(event)
        else:
            handling = super()._handle_event(event)
        return handling

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """Start to forward a body as it arrives; if an addon has set a response, send that and drop the body."""
        if self.flow.response is not None:
            yield from self._respond_early(self.flow.response)
        elif self._hold_limit:
            self.client_state = self.state_hold_request_body
        else:
            yield from self._start_passing_on()

    @property
    def _hold_limit(self) -> int:
        """Bytes up to which the body is held until it is complete; 0: it is forwarded as it arrives."""
        pipeline = pipeline_in(self.flow.request.stream)
        return pipeline.hold_limit if pipeline is not None else 0

    def state_hold_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Hold a modified body until it is complete; start to forward it when it gets large."""
        if isinstance(event, RequestData):
            if self._streamed > (limit := self._bodies.limit(self.flow)):
                yield from self._reject(too_large(limit, self.flow.request))
                return
            self._hold(self._modified(event.data))
            if len(self.request_body_buf) > self._hold_limit:
                yield from self._start_passing_on()
        if self._held.dropped and self.client_state == self.state_hold_request_body:
            yield from self._reject(no_room(self.flow.request))
        elif isinstance(event, RequestEndOfMessage):
            if end := self._modified(b""):
                self._hold(end)
            self.flow.request.stream = False
            self.client_state = self.state_consume_request_body
            yield from self.state_consume_request_body(event)

    def _modified(self, piece: bytes) -> bytes:
        modify = self.flow.request.stream
        if not callable(modify):
            return piece
        modified = modify(piece)
        return modified if isinstance(modified, bytes) else b"".join(modified)

    def _hold(self, piece: bytes) -> None:
        if self._held.add(len(piece)):
            self.request_body_buf += piece

    def _modify_queued(self) -> None:
        """Modify the queued pieces, as those that arrived during a hook, before later pieces are modified."""
        queue = self._paused_event_queue
        for _ in range(len(queue)):
            event = queue.popleft()
            if type(event) is RequestData:
                modified = _ModifiedData(self.stream_id, self._modified(event.data))
                self._queued -= len(event.data) - len(modified.data)
                self._held.less(len(event.data) - len(modified.data))
                event = modified
            if not isinstance(event, RequestData) or event.data:
                queue.append(event)

    def _start_passing_on(self) -> layer.CommandGenerator[None]:
        """Start to forward a body as it arrives, beginning with its held part."""
        self._passes_on = True
        self._modify_queued()
        yield from super().start_request_stream()
        if self.client_state != self.state_stream_request_body:  # there is no upstream
            return
        self._config.clients.deadline_of(self.context.client).pass_body_on()
        if not self._held.dropped and (body := bytes(self.request_body_buf)):
            if not self.context.options.store_streamed_bodies:
                self.request_body_buf.clear()
            self._held.less(len(body))
            yield SendHttp(RequestData(self.stream_id, body), self.context.server)

    def state_stream_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Forward a body as it arrives, up to its limit. The upstream's deadline starts at its end."""
        if self._held.dropped:
            yield from self._reject_streamed(no_room(self.flow.request))
            return
        if isinstance(event, RequestData):
            if self._streamed > (limit := self._bodies.limit(self.flow)):
                yield from self._reject_streamed(too_large(limit, self.flow.request))
                return
            # A modified body is not kept: it may differ from the received one.
            is_short = self._streamed <= MAX_KEPT and self.flow.request.stream is True
            self._sent_body = (self._sent_body or b"") + event.data if is_short else None
        if isinstance(event, RequestEndOfMessage) and self.server_state == self.state_wait_for_response_headers:
            yield from self._expect_response()
        if isinstance(event, _ModifiedData):
            if self.context.options.store_streamed_bodies:
                self.request_body_buf += event.data
            yield SendHttp(RequestData(self.stream_id, event.data), self.context.server)
        else:
            yield from super().state_stream_request_body(event)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Buffer a body, up to its limit, and forward it when it is complete."""
        if isinstance(event, RequestData) and self.flow.response is None:
            limit = self._bodies.limit(self.flow)
            if len(self.request_body_buf) + len(event.data) > limit:
                yield from self._reject(too_large(limit, self.flow.request))
                return
            if not self._held.add(len(event.data)):
                yield from self._reject(no_room(self.flow.request))
                return
        if not isinstance(event, RequestEndOfMessage):
            yield from super().state_consume_request_body(event)
            return
        self._held.complete()
        if self._hold_limit:
            self.flow.request.stream = False  # the body is complete, and empty
        self._framing.request_came(self.flow.request)
        yield from self._noting_body(super().state_consume_request_body(event))
        reused = self._attempt is not None and self._attempt.reused
        if reused and self.server_state == self.state_wait_for_response_headers:
            self._sent_body = self.flow.request.raw_content
            self._held.sent()
        else:
            self._held.release()
        if not self._bodies.keeps_plaintext:
            self.flow.request.data.content = None
            if self._bodies.redacted_bodies is not None:
                self._bodies.redacted_bodies.forget(self.flow)

    def _noting_body(self, handling: layer.CommandGenerator[None]) -> layer.CommandGenerator[None]:
        """Note a body as received, before the request hook."""
        reply = None
        while True:
            try:
                command = handling.send(reply)
            except StopIteration:
                return
            if isinstance(command, HttpRequestHook):
                self._framing.body_came(self.flow.request.raw_content)
            reply = yield command
