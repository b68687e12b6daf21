"""What all parts of a stream share: what the request has learnt of its attempts, and the memory that its body takes."""

import time
from typing import Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.layers.http._events import RequestData, RequestHeaders, RequestProtocolError

from addons.bodies.pipeline import BodyPipeline
from addons.exchange.attempt import Attempt, AttemptOutcome
from addons.layers.layer_config import LayerConfig
from addons.layers.stream.request_framing import RequestFraming
from addons.messages.location import ClientUrl
from addons.messages.response_head import client_url
from addons.upstream.target import begin_attempt, is_reused


class HttpLayerCallbacks(Protocol):
    """The layer that a stream is part of."""

    def watch(self) -> layer.CommandGenerator[None]:
        """Have the streams' deadlines looked after."""

    def last_event_came(self, stream_id: int) -> None:
        """Take note that the last event of a stream's response has come."""

    def enable_fast_path(self, server: Connection, pipeline: BodyPipeline) -> None:
        """Let the body of a response take the fast path, as far as it can."""


class BaseStream(HttpStream):
    """A stream that connects to the upstream, with a deadline, and notes each attempt."""

    def __init__(self, context: Context, stream_id: int, config: LayerConfig, owner: HttpLayerCallbacks) -> None:
        """Make the stream.

        Args:
            context: As for `HttpStream`.
            stream_id: As for `HttpStream`.
            config: The limits and policies that hold for the request.
            owner: The layer that makes it.
        """
        super().__init__(context, stream_id)
        self._config = config
        self._owner = owner
        self._attempt: Attempt | None = None
        """The one that is under way, or the last one."""
        self.needs_new_connection = False
        """Whether its upstream connection must be one that was not used before."""
        self.deadline: float | None = None
        """Until when the upstream has to begin its response (monotonic seconds); None while it is asked for nothing."""
        self._framing = RequestFraming()
        self._client_url = ClientUrl(b"http", b"", b"")
        """What the client has asked for, by whatever address."""
        self._held = config.bodies.budget.begin(self._drop_held)
        """What is counted of the request body that waits in memory."""
        self._queued = 0
        """Bytes of the body in the queue of events that wait for their turn."""
        self._sent_body: bytes | None = None
        """The body that was forwarded, as long as it may be needed again."""

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Take the request's head."""
        self._framing.head_came(event.request)
        self._client_url = client_url(event.request, "https" if self.context.client.tls else "http")
        yield from super().state_wait_for_request_headers(event)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to the upstream, or take the connection that is there."""
        if self.client_state == self.state_done:  # all of the request is here, or there is no more of it
            yield from self._expect_response()
        exchange = self._config.exchanges.of(self.flow)
        attempt = self._attempt = begin_attempt(exchange, self.flow.request)
        connected = yield from super().make_server_connection()
        if connected:
            attempt.reused = is_reused(self.flow.server_conn, self.flow.request)
            attempt.sent_at = time.monotonic()
        # The response is not waited for any more, where the client has gone meanwhile. What tells so is still in the
        # queue, and will let go of the connection.
        wanted = connected and (bool(self.flow.request.stream) or not self._client_has_gone())
        if wanted:
            if (redacted_bodies := self._config.bodies.redacted_bodies) is not None:
                redacted_bodies.release(self.flow)
            if self._framing.frame(self.flow.request, streams=self.client_state != self.state_done):
                exchange.changed = True
        return wanted

    def end_attempt(self, outcome: AttemptOutcome) -> None:
        """Note what has come of the attempt that is under way, if one is."""
        if self._attempt is not None:
            self._attempt.end(outcome)

    def _client_has_gone(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    def _expect_response(self) -> layer.CommandGenerator[None]:
        """Begin the upstream's time."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self._config.upstream_timeout
            yield from self._owner.watch()

    def _forget_body(self) -> None:
        """Keep nothing of the request body any longer."""
        self.request_body_buf.clear()
        self._held.release()

    def _drop_held(self) -> None:
        """Free what waits; the client is told when something next happens."""
        self.request_body_buf.clear()
        self._sent_body = None
        self._queued = 0
        waiting = [event for event in self._paused_event_queue if not isinstance(event, RequestData)]
        self._paused_event_queue.clear()
        self._paused_event_queue.extend(waiting)

    def release(self) -> None:
        """Free memory, as the exchange is over; else, only the garbage collector would find this circle of objects."""
        if self._paused is None:
            self._forget_body()
            self.__dict__.pop("handle_event", None)
            self.context.layers.clear()
            self.client_state = self.server_state = ended


def ended(_: events.Event) -> layer.CommandGenerator[None]:
    """The state of a stream that takes no more events."""
    yield from ()
