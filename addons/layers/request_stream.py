"""A request on its way to the upstream, as mitmproxy carries it, but for what a proxy for APIs does otherwise.

- A request that the gate has refused is answered as soon as its headers are known; its body falls unread.
- A body that turns out too long is refused at the byte too many.
- A small JSON body is held until it is complete; a larger one goes on as it comes. What waits is within one budget.
- What is sent upstream is framed by what it is, whatever operators and rules have made of the head.
- A request body is forgotten as soon as it has been forwarded.
"""

import time
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook

from addons.bodies.request_body import MAX_BUFFERED
from addons.bodies.signing_filter import ResponseTap
from addons.exchange.attempt import Attempt, AttemptOutcome
from addons.layers.layer_config import LayerConfig
from addons.messages.framing import Fields, frame_as, frame_by_length, framing_of
from addons.messages.location import Asked
from addons.messages.response_head import asked_for
from addons.messages.responses import no_room, too_large
from addons.upstream.target import begin_attempt, is_reused


class _ModifiedData(RequestData):
    """Some of a request body that has gone through the modifier (`flow.request.stream`)."""


_OF_REQUESTS = frozenset({RequestHeaders, RequestData, _ModifiedData, RequestEndOfMessage})
_OF_RESPONSES = frozenset({ResponseHeaders, ResponseData, ResponseEndOfMessage})

MAX_KEPT = 64 * 1024
"""Bytes of a body that streams through up to which it is kept for a second attempt."""


class HttpLayerCallbacks(Protocol):
    """The layer that a stream is part of."""

    def watch(self) -> layer.CommandGenerator[None]:
        """Have the streams' deadlines looked after."""

    def last_event_came(self, stream_id: int) -> None:
        """Take note that the last event of a stream's answer has come."""

    def enable_fast_path(self, server: Connection, tap: ResponseTap) -> None:
        """Let the body of an answer pass by the layers, as far as it can."""


class ApiRequestStream(HttpStream):
    """A request, until the upstream answers."""

    def __init__(
        self,
        context: Context,
        stream_id: int,
        limits: LayerConfig,
        owner: HttpLayerCallbacks,
    ) -> None:
        """Make the stream.

        Args:
            context: As for `HttpStream`.
            stream_id: As for `HttpStream`.
            limits: What to hold the request to.
            owner: Has made it.
        """
        super().__init__(context, stream_id)
        self._limits = limits
        self._owner = owner
        self._attempt: Attempt | None = None
        """The one that is under way, or the last one."""
        self._streamed = 0
        """Bytes of the body that have come."""
        self._passes_on = False
        """Whether the body is forwarded as it comes."""
        self._queued = 0
        """Bytes of the body in the queue of events that wait for their turn."""
        self._held = limits.bodies.begin(self._drop_held)
        self._sent_body: bytes | None = None
        """The body that was forwarded, as long as it may be needed again."""
        self.needs_new_connection = False
        """Whether its upstream connection must be one that was not used before."""
        self._framing: Fields = ()
        """The fields that framed the request body when it came."""
        self._asked = Asked(b"http", b"", b"")
        """What the client has asked for, by whatever address."""
        self._is_framed = False
        self._received_body: bytes | None = None
        """The body as it has come, until it is forwarded."""
        self._received: tuple[object, ...] = ()
        self.deadline: float | None = None
        """Until when the upstream has to begin its answer (monotonic seconds); None while nothing is asked of it."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event, or let it wait for its turn."""
        if type(event) is RequestData:
            before, self._streamed = self._streamed, self._streamed + len(event.data)
            if self._paused is not None:
                return _ended(event) if before > self._limits.body_limit(self.flow) else self._queue(event)
        return super().handle_event(event)

    def _queue(self, event: RequestData) -> layer.CommandGenerator[None]:
        """Let some of a body wait for its turn. The work on it is done now, or all of it would come at once later."""
        if self._passes_on and self._streamed <= self._limits.body_limit(self.flow):
            event = _ModifiedData(self.stream_id, self._modified(event.data))
        if not event.data or not self._held.add(len(event.data)):
            return _ended(event)
        self._queued += len(event.data)
        return super().handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        kind = type(event)  # the commonest go to their states without a generator in between
        handling: layer.CommandGenerator[None]
        if kind in _OF_RESPONSES:
            handling = self.server_state(event)
        elif kind in _OF_REQUESTS:
            if self._queued and isinstance(event, RequestData):
                self._queued -= len(event.data)
                self._held.less(len(event.data))
            if kind is RequestEndOfMessage:  # nothing more has to be looked at before its turn
                self.handle_event = super().handle_event  # type: ignore[method-assign]
            handling = self.client_state(event)
        else:
            handling = super()._handle_event(event)
        return handling

    def release(self) -> None:
        """Free memory, as the exchange is over; else, only the garbage collector would find this circle of objects."""
        if self._paused is None:
            self._held.release()
            self.request_body_buf.clear()
            self.__dict__.pop("handle_event", None)
            self.context.layers.clear()
            self.client_state = self.server_state = _ended

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Take the request's head."""
        self._framing = framing_of(event.request.headers)
        self._asked = asked_for(event.request, "https" if self.context.client.tls else "http")
        yield from super().state_wait_for_request_headers(event)

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """Begin to forward a body as it comes; or, where the gate has refused it, answer and let the body fall."""
        if self.flow.response is None:
            if self._limits.holds(self.flow):
                self.client_state = self.state_hold_request_body
            else:
                yield from self._start_passing_on()
        else:
            yield from self._answer_now(self.flow.response)

    def state_hold_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Hold a body, as it is to be forwarded, until it is complete; or, when it gets large, pass it on."""
        if isinstance(event, RequestData):
            if self._streamed > (limit := self._limits.body_limit(self.flow)):
                yield from self._refuse(too_large(limit, self.flow.request))
                return
            self._hold(self._modified(event.data))
            if len(self.request_body_buf) > MAX_BUFFERED:
                yield from self._start_passing_on()
        if self._held.dropped and self.client_state == self.state_hold_request_body:
            yield from self._refuse(no_room(self.flow.request))
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

    def _drop_held(self) -> None:
        """Free what waits; the client is told when something next happens."""
        self.request_body_buf.clear()
        self._sent_body = None
        self._queued = 0
        waiting = [event for event in self._paused_event_queue if not isinstance(event, RequestData)]
        self._paused_event_queue.clear()
        self._paused_event_queue.extend(waiting)

    def _modify_queued(self) -> None:
        """Do the work on what waits already, as while a hook was at work: it comes before what comes from now on."""
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
        """Begin to forward a body as it comes, with the beginning of it that has been held."""
        self._passes_on = True
        self._modify_queued()
        yield from super().start_request_stream()
        if self.client_state != self.state_stream_request_body:  # there is no upstream
            return
        self._limits.deadline_of(self.context.client).pass_body_on()
        if not self._held.dropped and (body := bytes(self.request_body_buf)):
            if not self.context.options.store_streamed_bodies:
                self.request_body_buf.clear()
            self._held.less(len(body))
            yield SendHttp(RequestData(self.stream_id, body), self.context.server)

    def state_stream_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Forward a body as it comes, up to its limit. The upstream's time begins with its end."""
        if self._held.dropped:
            yield from self._give_up_streaming(no_room(self.flow.request))
            return
        if isinstance(event, RequestData):
            if self._streamed > (limit := self._limits.body_limit(self.flow)):
                yield from self._give_up_streaming(too_large(limit, self.flow.request))
                return
            # What passes through a modifier is not kept: another one may come out of it.
            is_short = self._streamed <= MAX_KEPT and self.flow.request.stream is True
            self._sent_body = (self._sent_body or b"") + event.data if is_short else None
        if isinstance(event, RequestEndOfMessage) and self.server_state == self.state_wait_for_response_headers:
            yield from self._expect_answer()
        if isinstance(event, _ModifiedData):
            if self.context.options.store_streamed_bodies:
                self.request_body_buf += event.data
            yield SendHttp(RequestData(self.stream_id, event.data), self.context.server)
        else:
            yield from super().state_stream_request_body(event)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Buffer a body, up to its limit, and forward it when it is complete."""
        if isinstance(event, RequestData) and self.flow.response is None:
            limit = self._limits.body_limit(self.flow)
            if len(self.request_body_buf) + len(event.data) > limit:
                yield from self._refuse(too_large(limit, self.flow.request))
                return
            if not self._held.add(len(event.data)):
                yield from self._refuse(no_room(self.flow.request))
                return
        if isinstance(event, RequestEndOfMessage):
            self._held.complete()
            if self.flow.request.stream and self._limits.holds(self.flow):
                self.flow.request.stream = False  # all of it is here, and that is nothing
            self._received = _received_head(self.flow.request)
            yield from self._noting_body(super().state_consume_request_body(event))
        else:
            yield from super().state_consume_request_body(event)
        if isinstance(event, RequestEndOfMessage):
            reused = self._attempt is not None and self._attempt.reused
            if reused and self.server_state == self.state_wait_for_response_headers:
                self._sent_body = self.flow.request.raw_content
                self._held.sent()
            else:
                self._held.release()
            if not self._limits.keeps_plaintext:
                self.flow.request.data.content = None
                if self._limits.custody is not None:
                    self._limits.custody.forget(self.flow)

    def _noting_body(self, handling: layer.CommandGenerator[None]) -> layer.CommandGenerator[None]:
        """Note a body as it has come, before the addons of the request hook see it."""
        reply = None
        while True:
            try:
                command = handling.send(reply)
            except StopIteration:
                return
            if isinstance(command, HttpRequestHook):
                self._received_body = self.flow.request.raw_content
            reply = yield command

    def _frame_request(self) -> None:
        """Have the head be true to the body that goes upstream, and tell of what was changed since it was received."""
        request = self.flow.request
        if self.client_state != self.state_done:
            frame_as(request.headers, self._framing)
            return
        body, received = request.raw_content or b"", self._received_body or b""
        self._received_body = None
        if body != received or _is_another(_received_head(request), self._received):
            self._limits.changed(self.flow)
        frame_by_length(request.headers, len(body))

    def _refuse(self, answer: http.Response) -> layer.CommandGenerator[None]:
        self.request_body_buf.clear()
        self._held.release()
        self.flow.response = answer
        yield from self._answer_now(answer)

    def _give_up_streaming(self, answer: http.Response) -> layer.CommandGenerator[None]:
        self.end_attempt(AttemptOutcome.ABANDONED)
        self.request_body_buf.clear()
        yield SendHttp(RequestProtocolError(self.stream_id, "given up", ErrorCode.CANCEL), self.context.server)
        if self.server_state == self.state_wait_for_response_headers:
            self.deadline = None
            yield from self._refuse(answer)
        else:  # the answer has begun, and cannot be taken back
            error = ResponseProtocolError(self.stream_id, "the request was given up", ErrorCode.KILL)
            yield from super().handle_protocol_error(error)

    def _answer_now(self, answer: http.Response) -> layer.CommandGenerator[None]:
        """Send an answer in the middle of the request. What still comes of the request is read and dropped."""
        answer.headers["connection"] = "close"  # the client may be sending for a long time yet
        self.client_state = self.state_errored
        self.server_state = self.state_errored
        answer.timestamp_start = answer.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.flow.live = False
        yield DropStream(self.stream_id)
        yield SendHttp(ResponseHeaders(self.stream_id, answer), self.context.client)
        yield SendHttp(ResponseData(self.stream_id, answer.raw_content or b""), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to the upstream, or take the connection that is there."""
        if self.client_state == self.state_done:  # all of the request is here, or there is no more of it
            yield from self._expect_answer()
        attempt = self._attempt = begin_attempt(self._limits.exchanges.of(self.flow), self.flow.request)
        connected = yield from super().make_server_connection()
        if connected:
            attempt.reused = is_reused(self.flow.server_conn, self.flow.request)
            attempt.sent_at = time.monotonic()
        # Nobody waits for the answer any more, where the client has gone meanwhile. What tells so is still in the
        # queue, and will let go of the connection.
        wanted = connected and (bool(self.flow.request.stream) or not self._client_has_gone())
        if wanted and self._limits.custody is not None:
            self._limits.custody.release(self.flow)
        if wanted and not self._is_framed:
            self._is_framed = True
            self._frame_request()
        return wanted

    def end_attempt(self, outcome: AttemptOutcome) -> None:
        """Note what has come of the attempt that is under way, if one is."""
        if self._attempt is not None:
            self._attempt.end(outcome)

    def _client_has_gone(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    def _expect_answer(self) -> layer.CommandGenerator[None]:
        if self.deadline is None:
            self.deadline = time.monotonic() + self._limits.upstream_timeout
            yield from self._owner.watch()


def _received_head(request: http.Request) -> tuple[object, ...]:
    """What of a request's head says where it goes, and its fields."""
    data = request.data
    return data.method, data.scheme, data.host, data.port, data.path, data.headers.fields


def _is_another(head: tuple[object, ...], received: tuple[object, ...]) -> bool:
    """Whether the upstream takes a head for that of another request: by where it goes, or by what its body is."""
    return head[:-1] != received[:-1] or (head[-1] is not received[-1] and _kinds(head[-1]) != _kinds(received[-1]))


def _kinds(fields: Any) -> list[tuple[bytes, bytes]]:
    names = ((name.lower(), value) for name, value in fields)
    return [field for field in names if field[0] in (b"content-type", b"content-encoding")]


def _ended(_: events.Event) -> layer.CommandGenerator[None]:
    """The state of a stream that nobody tells anything any more."""
    yield from ()
