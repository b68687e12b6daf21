"""The base of a stream: the current attempt and its deadline, and the memory of the request body."""

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
    """What a stream calls of its layer."""

    def watch(self) -> layer.CommandGenerator[None]:
        """Watch the streams' deadlines."""

    def last_event_came(self, stream_id: int) -> None:
        """Note that the last event of a stream's response has arrived."""

    def enable_fast_path(self, server: Connection, pipeline: BodyPipeline) -> None:
        """Enable the fast path for the body of a response, if possible."""


class BaseStream(HttpStream):
    """A stream that connects to the upstream, with a deadline, and records each attempt."""

    def __init__(self, context: Context, stream_id: int, config: LayerConfig, owner: HttpLayerCallbacks) -> None:
        """Make the stream.

        Args:
            context: As for `HttpStream`.
            stream_id: As for `HttpStream`.
            config: The limits and policies for the request.
            owner: The layer that makes it.
        """
        super().__init__(context, stream_id)
        self._config = config
        self._owner = owner
        self._attempt: Attempt | None = None
        """The current or last attempt."""
        self.needs_new_connection = False
        """Whether its upstream connection must be a new one."""
        self.deadline: float | None = None
        """When the upstream has to begin its response (monotonic seconds); None while no response is awaited."""
        self._framing = RequestFraming()
        self._client_url = ClientUrl(b"http", b"", b"")
        """The URL of the client's request."""
        self._held = config.bodies.budget.begin(self._drop_held)
        """The bytes of the request body in memory, as counted by the budget."""
        self._queued = 0
        """Bytes of the body in the queue of events."""
        self._sent_body: bytes | None = None
        """The body as forwarded, as long as a second attempt may need it."""

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Handle the request's head."""
        self._framing.head_came(event.request)
        self._client_url = client_url(event.request, "https" if self.context.client.tls else "http")
        yield from super().state_wait_for_request_headers(event)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to the upstream, or take an idle connection."""
        if self.client_state == self.state_done:  # the request is complete, or was cut short
            yield from self._expect_response()
        exchange = self._config.exchanges.of(self.flow)
        attempt = self._attempt = begin_attempt(exchange, self.flow.request)
        connected = yield from super().make_server_connection()
        if connected:
            attempt.reused = is_reused(self.flow.server_conn, self.flow.request)
            attempt.sent_at = time.monotonic()
        # If the client has disconnected meanwhile, nothing is sent. The event of that is still in the queue, and will
        # release the connection.
        wanted = connected and (bool(self.flow.request.stream) or not self._client_has_gone())
        if wanted:
            if (redacted_bodies := self._config.bodies.redacted_bodies) is not None:
                redacted_bodies.release(self.flow)
            if self._framing.frame(self.flow.request, streams=self.client_state != self.state_done):
                exchange.changed = True
        return wanted

    def end_attempt(self, outcome: AttemptOutcome) -> None:
        """Set the outcome of the current attempt, if there is one."""
        if self._attempt is not None:
            self._attempt.end(outcome)

    def _client_has_gone(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    def _expect_response(self) -> layer.CommandGenerator[None]:
        """Start the upstream's deadline."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self._config.upstream_timeout
            yield from self._owner.watch()

    def _forget_body(self) -> None:
        """Free the memory of the request body."""
        self.request_body_buf.clear()
        self._held.release()

    def _drop_held(self) -> None:
        """Free the held body; the request is rejected at the next event."""
        self.request_body_buf.clear()
        self._sent_body = None
        self._queued = 0
        waiting = [event for event in self._paused_event_queue if not isinstance(event, RequestData)]
        self._paused_event_queue.clear()
        self._paused_event_queue.extend(waiting)

    def release(self) -> None:
        """Free memory after the exchange: break the reference cycle that only the garbage collector would find."""
        if self._paused is None:
            self._forget_body()
            self.__dict__.pop("handle_event", None)
            self.context.layers.clear()
            self.client_state = self.server_state = ended


def ended(_: events.Event) -> layer.CommandGenerator[None]:
    """The state of a stream that ignores all events."""
    yield from ()
