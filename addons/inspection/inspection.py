"""What ops see of the traffic in mitmweb and in the console, and what they do not.

Each flow is marked, and has a comment that says how it stands. Bodies are not shown: in their place stands a notice
with their sizes and hashes, from the time when the head of the message is there. A request body has to wait in the
flow to be forwarded; it waits here instead. Under mitmdump and `tee-signer`, where nobody looks at flows, none of this
is loaded.
"""

from weakref import WeakKeyDictionary

from mitmproxy import ctx, flow, http
from mitmproxy.addons.view import View

from addons.bodies.signing_filter import ResponseTap
from addons.exchange.record import Exchanges
from addons.inspection.inspected_exchange import (
    InspectedExchange,
    MeasuredReader,
    MeasuredStream,
    model_of,
)
from addons.inspection.text import comment_of, is_withheld, mark_of, notice_of
from addons.routing.routes import Kind, Router, request_path

_BROWSER = "webaddon"
"""The name of the addon of mitmproxy's that only mitmweb has."""


class Inspection:
    """Marks flows, and withholds their bodies; see `addons.layers.layer_config.RedactedBodyStore`.

    It comes last in the chain: what it sees is what goes out.

    Attributes:
        view: mitmproxy's list of flows.
        keeps_plaintext: Whether bodies stay in flows, for all to see.
    """

    def __init__(self, view: View, router: Router, exchanges: Exchanges, *, keeps_plaintext: bool) -> None:
        """Know nothing yet.

        Args:
            view: mitmproxy's list of flows.
            router: Knows the requests' routes.
            exchanges: What the other addons have noted.
            keeps_plaintext: Whether bodies stay in flows, for all to see.
        """
        self.keeps_plaintext = keeps_plaintext
        self.view = view
        self._router = router
        self._exchanges = exchanges
        # Weak, both of them: what is no longer listed is gone from here as well.
        self._inspected: WeakKeyDictionary[flow.Flow, InspectedExchange] = WeakKeyDictionary()
        self._waiting: WeakKeyDictionary[flow.Flow, bytes] = WeakKeyDictionary()

    def exchange_of(self, of: flow.Flow | None) -> InspectedExchange | None:
        """What is known of a flow; None of one that has not passed here, such as a copy or one from a file."""
        return None if of is None else self._inspected.get(of)

    def shown(self, which: flow.Flow) -> None:
        """Take note that somebody looks at a flow: `@focus` is that one from now on, in mitmweb.

        There, the browser keeps to itself which flow is chosen. All that tells is that it asks for the bodies.
        """
        if ctx.master.addons.get(_BROWSER) is None or which not in self.view:
            return
        if self.view.focus.flow is not which:
            self.view.focus.flow = which

    def running(self) -> None:
        """Have mitmweb show the comments, unless somebody has chosen what it shows."""
        if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
            # With bodies withheld, the size would be that of the notices.
            left_out = () if self.keeps_plaintext else ("size",)
            columns = [column for column in ctx.options.web_columns if column not in left_out]
            ctx.options.update(web_columns=[*columns, "comment"])

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Begin with a flow."""
        kind = self._router.route_of(flow).kind
        route = f"{flow.request.method} {request_path(flow.request)}"
        exchange = self._inspected[flow] = InspectedExchange(
            self._exchanges.of(flow), route, due=kind is Kind.SIGNED, page=kind is Kind.PROOF
        )
        stream = flow.request.stream
        if stream and flow.response is None:
            flow.request.stream = MeasuredStream(
                exchange.request, stream if callable(stream) else None, as_it_came=True
            )
        self._show(flow, exchange)

    def came(self, flow: http.HTTPFlow) -> None:
        """Measure a request body that was held, before anybody has changed it."""
        exchange = self._inspected.get(flow)
        body = flow.request.raw_content
        if exchange is None or body is None or is_withheld(exchange, flow.request):
            return
        if not exchange.request.complete:  # it has not passed a modifier
            exchange.request.add(body)
            exchange.request.complete = True
        exchange.model = model_of(body) if exchange.due else None

    def request(self, flow: http.HTTPFlow) -> None:
        """Take a body out of its flow while it waits to be forwarded, which may be long."""
        exchange = self._inspected.get(flow)
        if exchange is None or self.keeps_plaintext or not flow.request.raw_content:
            return
        if not is_withheld(exchange, flow.request):
            if flow.response is None:
                self._waiting[flow] = flow.request.raw_content
            flow.request.data.content = None
        self._show(flow, exchange)

    def release(self, flow: http.HTTPFlow) -> None:
        """Put a request body back into its flow, as it is forwarded now; unless an operator has written another one."""
        body, exchange = self._waiting.pop(flow, None), self._inspected.get(flow)
        shown = flow.request.data.content
        if body is not None and (shown is None or (exchange is not None and is_withheld(exchange, flow.request))):
            flow.request.data.content = body

    def forget(self, flow: http.HTTPFlow) -> None:
        """Forget a request body, and leave a notice in its place."""
        self._waiting.pop(flow, None)
        self._update(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Get ready to measure the answer."""
        exchange, response = self._inspected.get(flow), flow.response
        if exchange is None or response is None:
            return
        exchange.is_websocket = response.status_code == 101
        stream = response.stream
        if isinstance(stream, ResponseTap):
            stream.watch(lambda reader: MeasuredReader(exchange.response, reader))
        elif stream:
            response.stream = MeasuredStream(exchange.response, stream if callable(stream) else None)
        self._show(flow, exchange)

    def response(self, flow: http.HTTPFlow) -> None:
        """Say how the exchange has ended; of a WebSocket, it has only begun."""
        exchange, response = self._inspected.get(flow), flow.response
        if exchange is None or response is None:
            return
        exchange.status = response.status_code
        exchange.made_here = exchange.exchange.upstream_status is None
        if not exchange.response.complete and not is_withheld(exchange, response):
            exchange.response.add(response.raw_content or b"")  # it was not streamed
            exchange.response.complete = True
        self._show(flow, exchange)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Say how a WebSocket has ended, in place of the body that a 101 does not have."""
        if flow.response is not None and not flow.response.raw_content:
            flow.response.data.content = None
        self._update(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """Say why an exchange has failed; `log_redaction` has seen to it that nothing is quoted."""
        self._waiting.pop(flow, None)
        exchange = self._inspected.get(flow)
        if exchange is not None:
            exchange.error = flow.error.msg if flow.error is not None else "it was cut short"
            self._show(flow, exchange)

    def _update(self, flow: http.HTTPFlow) -> None:
        if (exchange := self._inspected.get(flow)) is not None:
            self._show(flow, exchange)

    def _show(self, flow: http.HTTPFlow, exchange: InspectedExchange) -> None:
        """Write into a flow what is known now, but over nothing that somebody else has written."""
        mark, comment = mark_of(exchange), comment_of(exchange)
        if flow.marked == exchange.mark:
            flow.marked = exchange.mark = mark
        if flow.comment == exchange.comment:
            flow.comment = exchange.comment = comment
        self._notice(flow.request, exchange, "request")
        if flow.response is not None:
            self._notice(flow.response, exchange, "response")

    def _notice(self, message: http.Message, exchange: InspectedExchange, what: str) -> None:
        content = message.data.content
        if content is None or content is exchange.notices.get(what):
            facts = exchange.request if what == "request" else exchange.response
            notice = notice_of(exchange, facts, what, kept=self.keeps_plaintext)
            message.data.content = exchange.notices[what] = notice


class OriginalRequestProbe:
    """Shows the inspection the requests, from a place in the chain where nobody has changed their bodies yet."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def request(self, flow: http.HTTPFlow) -> None:
        """Show it a request whose body has come."""
        self._inspection.came(flow)
